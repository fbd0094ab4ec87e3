// The cards of the report; plot.js comes before.
const data = JSON.parse($('data').textContent);
const summary = data.summary;

function sloLines(svg, x, y, which) {
  let row = 0;
  for (const slo of data.classes) {
    const bound = slo[which];
    if (bound === null) continue;
    const at = x(bound);
    element(svg, 'line', {x1: at, x2: at, y1: y(0), y2: y(1), stroke: 'var(--slo)',
                          'stroke-dasharray': '4 3', 'stroke-width': 1.5});
    element(svg, 'text', {x: at - 5, y: y(0) - 6 - 15 * row++, 'text-anchor': 'end',
                          style: 'fill: var(--slo)'},
            (slo.name ? slo.name + ' ' : '') + show(bound) + ' ms');
  }
}

function cdf(title, values, which) {
  const card = element($('cdfs'), 'div', {class: 'card'});
  element(card, 'h2', {}, title);
  if (values.length === 0) {
    element(card, 'p', {class: 'soft'}, 'no sample');
    return;
  }
  const bounds = which ? data.classes.map((slo) => slo[which]).filter((bound) => bound !== null) : [];
  const low = Math.max(values[Math.floor(values.length * 0.02)], 0.01);
  const high = Math.max(values[values.length - 1], ...bounds) * 1.05;
  const share = (i) => i / (values.length - 1 || 1);
  plot(card, {
    label: title, xName: 'ms', yText: (value) => show(100 * value) + ' %',
    x: (from, to) => latencyScale(low, high, from, to),
    y: (from, to) => linear(0, 1, from, to),
    draw: (svg, x, y) => {
      const points = values.map((value, i) => [x(value), y(share(i))]);
      element(svg, 'path', {d: pathOf(points), fill: 'none', stroke: 'var(--good)', 'stroke-width': 2});
      if (which) sloLines(svg, x, y, which);
    },
    hover: (at, _, x, y) => {
      const value = x.invert(at);
      let i = values.findIndex((other) => other > value);
      if (i < 0) i = values.length - 1;
      return {x: at, y: y(share(i)), text: `${show(100 * share(i), 1)} % within ${show(value)} ms`};
    },
  });
}

const kJudgements = [['--good', 'good'], ['--miss', 'missed TTFT'], ['--miss', 'missed TPOT'],
                     ['--miss', 'missed both'], ['--lost', 'not served']];

function timeline() {
  const card = $('timeline');
  element(card, 'h2', {}, 'Each request by its intended send time');
  const thinned = data.points_every > 1 ? ` Every ${data.points_every}th request is shown.` : '';
  element(card, 'p', {class: 'soft'}, 'Height: time to first token. Not served: at the top edge.' +
      (data.runs.length > 1 ? ' First seed.' : '') + thinned);
  keys(card, summary.attainment
      ? [['--good', 'good'], ['--miss', 'missed its SLO'], ['--lost', 'not served']]
      : [['--good', 'served'], ['--lost', 'not served']]);
  const points = data.points;
  const served = points.filter((point) => point[2] !== 4).map((point) => point[1]);
  const low = served.length ? Math.min(...served) * 0.8 : 1;
  const high = served.length ? Math.max(...served) * 1.3 : 10;
  const place = (point, x, y) => [x(point[0]), point[2] === 4 ? 10 : y(point[1])];
  plot(card, {
    label: 'TTFT over time', height: 240, xName: 's',
    x: (from, to) => linear(0, data.last_s, from, to),
    y: (from, to) => latencyScale(low, high, from, to),
    yText: (value) => show(value) + ' ms',
    draw: (svg, x, y) => {
      for (const point of points) {
        const [cx, cy] = place(point, x, y);
        element(svg, 'circle', {cx, cy, r: points.length > 1500 ? 1.8 : 2.8, 'fill-opacity': 0.75,
                                fill: `var(${kJudgements[point[2]][0]})`});
      }
    },
    hover: (atX, atY, x, y) => {
      let best = null;
      for (const point of points) {
        const [cx, cy] = place(point, x, y);
        const distance = (cx - atX) ** 2 + (cy - atY) ** 2;
        if (!best || distance < best.distance) best = {distance, point, cx, cy};
      }
      if (!best || best.distance > 400) return null;
      const [at, ttft, judgement, prompt, output] = best.point;
      const text = judgement === 4 ? 'not served' : `TTFT ${show(ttft)} ms` +
          (summary.attainment ? ', ' + kJudgements[judgement][1] : '');
      return {x: best.cx, y: best.cy, text: `${show(at, 2)} s: ${text} (${prompt}/${output} tokens)`};
    },
  });
}

// Columns of data.flow: s, arrivals/s, in flight, tokens/s.
function flow(title, lines) {
  const card = element($('flow'), 'div', {class: 'card'});
  element(card, 'h2', {}, title);
  if (lines.length > 1) keys(card, lines.map(([, color, name]) => [color, name]));
  const bins = data.flow;
  const high = Math.max(1, ...bins.flatMap((bin) => lines.map(([column]) => bin[column]))) * 1.1;
  plot(card, {
    label: title, height: 180, xName: 's',
    x: (from, to) => linear(0, data.last_s, from, to),
    y: (from, to) => linear(0, high, from, to),
    draw: (svg, x, y) => {
      for (const [column, color] of lines) {
        element(svg, 'path', {d: pathOf(bins.map((bin) => [x(bin[0]), y(bin[column])])), fill: 'none',
                              stroke: `var(${color})`, 'stroke-width': 1.8});
      }
    },
    hover: (at, _, x, y) => {
      const bin = bins.reduce((a, b) => Math.abs(x(b[0]) - at) < Math.abs(x(a[0]) - at) ? b : a);
      return {x: x(bin[0]), y: y(bin[lines[0][0]]), text: `${show(bin[0])} s: ${show(bin[1], 1)} arrivals/s, ` +
          `${bin[2]} in flight, ${show(bin[3], 0)} tokens/s`};
    },
  });
}

function histogram(title, bins) {
  const card = element($('lengths'), 'div', {class: 'card'});
  element(card, 'h2', {}, title);
  const most = Math.max(1, ...bins.map((bin) => bin[2]));
  const name = (i) => i < bins.length ? show(bins[i][0], 0) : show(bins[bins.length - 1][1], 0);
  const every = Math.ceil((bins.length + 1) / 8);
  const inside = (at, x) => Math.min(bins.length - 1, Math.max(0, Math.floor(x.invert(at))));
  plot(card, {
    label: title, height: 180, xName: '',
    x: (from, to) => {
      const scale = linear(0, bins.length, from, to);
      scale.ticks = [...Array(bins.length + 1).keys()].filter((i) => i % every === 0);
      return scale;
    },
    y: (from, to) => linear(0, most * 1.05, from, to),
    xText: name,
    draw: (svg, x, y) => bins.forEach((bin, i) => {
      element(svg, 'rect', {x: x(i) + 1, width: Math.max(1, x(i + 1) - x(i) - 2), y: y(bin[2]),
                            height: Math.max(0, y(0) - y(bin[2])), rx: 2, fill: 'var(--good)'});
    }),
    hover: (at, _, x, y) => {
      const bin = bins[inside(at, x)];
      return {x: at, y: y(bin[2]), text: `${show(bin[0], 0)} to ${show(bin[1], 0)} tokens: ${bin[2]} requests`};
    },
  });
}

// ---- the page

function tiles() {
  const tile = (name, value, unit) => {
    const node = element($('tiles'), 'div', {class: 'tile'});
    element(node, 'span', {class: 'soft'}, name);
    element(node, 'b', {}, value);
    element(node, 'span', {class: 'soft'}, unit);
  };
  const good = summary.attainment;
  if (good) {
    tile('Goodput', show(summary.goodput_per_s), 'good requests/s');
    tile('Attainment', percent(good.good, good.requests), `${good.good} of ${good.requests}`);
  }
  tile('Offered', show(summary.offered_per_s), 'requests/s');
  tile('Throughput', show(summary.output_tokens_per_s), 'output tokens/s');
  tile('TTFT', show(summary.ttft_ms.p50), `ms p50, ${show(summary.ttft_ms.p99)} p99`);
  tile('TPOT', show(summary.tpot_ms.p50), `ms p50, ${show(summary.tpot_ms.p99)} p99`);
  tile('Not served', show(summary.requests - summary.succeeded), `of ${summary.requests} requests`);
}

function attainment() {
  const card = $('attainment');
  element(card, 'h2', {}, 'Attainment');
  if (!summary.attainment) {
    element(card, 'p', {class: 'soft'}, 'No objectives were given (--slo, --slo-class).');
    return;
  }
  const bound = (value) => value === null ? '–' : show(value) + ' ms';
  const stages = (one) => Object.entries(one.missed_by_stage)
      .map(([stage, count]) => `${stage} ${count}`).join(', ') || '–';
  const row = (name, slo, one) => [name, slo ? bound(slo.ttft_ms) : '', slo ? bound(slo.tpot_ms) : '',
    one.requests, percent(one.good, one.requests), one.missed.ttft, one.missed.tpot, one.missed.both,
    one.not_served, stages(one)];
  const rows = data.classes.map((slo) =>
      row(slo.name || 'all', slo, summary.attainment_by_class[slo.name]));
  if (rows.length > 1) rows.push(row('all', null, summary.attainment));
  table(card, ['class', 'TTFT', 'TPOT', 'requests', 'good', 'missed TTFT', 'missed TPOT', 'missed both',
               'not served', 'misses by stage'], rows);
}

const kShareAxis = {
  y: (from, to) => linear(0, 1, from, to),
  yText: (value) => show(100 * value) + ' %',
};
const windowText = ([start, end, requests, good]) =>
    `${show(start, 1)} to ${show(end, 1)} s: ${good} of ${requests} good, ` +
    `${show(requests / (end - start), 1)} arrivals/s`;

// The 90 % that goodput asks for.
function goal(svg, x, y, from, to) {
  element(svg, 'line', {x1: x(from), x2: x(to), y1: y(0.9), y2: y(0.9), stroke: 'var(--slo)',
                        'stroke-dasharray': '4 3', 'stroke-width': 1.5});
}

function attainmentOverTime() {
  const card = element($('goodness'), 'div', {class: 'card'});
  element(card, 'h2', {}, 'Attainment over time');
  element(card, 'p', {class: 'soft'}, 'Good requests of those that were to be sent in each window.' +
      (data.runs.length > 1 ? ' First seed.' : ''));
  const windows = data.windows.filter((one) => one[4] === 0 && one[2] > 0);
  plot(card, {
    ...kShareAxis, label: 'attainment over time', xName: 's',
    x: (from, to) => linear(0, data.last_s, from, to),
    draw: (svg, x, y) => {
      goal(svg, x, y, 0, data.last_s);
      for (const [start, end, requests, good] of windows) {
        const width = Math.max(1, x(end) - x(start) - 1.5);
        const top = y(good / requests);
        element(svg, 'rect', {x: x(start), width, y: y(1), height: top - y(1), fill: 'var(--miss)',
                              'fill-opacity': 0.35});
        element(svg, 'rect', {x: x(start), width, y: top, height: y(0) - top, fill: 'var(--good)'});
      }
    },
    hover: (at, _, x, y) => {
      const one = windows.find(([start, end]) => x(start) <= at && at <= x(end));
      return one && {x: at, y: y(one[3] / one[2]), text: windowText(one)};
    },
  });
}

function attainmentByRate() {
  const card = element($('goodness'), 'div', {class: 'card'});
  element(card, 'h2', {}, 'Attainment against arrival rate');
  element(card, 'p', {class: 'soft'}, 'Each dot is one window of the run: its own arrivals, and how ' +
      'many of them were good. `baton bench sweep` measures the curve.');
  const dots = data.windows.filter((one) => one[2] > 0)
      .map((one) => ({rate: one[2] / (one[1] - one[0]), share: one[3] / one[2], one}));
  const most = Math.max(...dots.map((dot) => dot.rate)) * 1.1;
  plot(card, {
    ...kShareAxis, label: 'attainment against arrival rate', xName: 'arrivals/s',
    x: (from, to) => linear(0, most, from, to),
    draw: (svg, x, y) => {
      goal(svg, x, y, 0, most);
      for (const {rate, share} of dots) {
        element(svg, 'circle', {cx: x(rate), cy: y(share), r: 4, fill: 'var(--good)', 'fill-opacity': 0.65});
      }
    },
    hover: (atX, atY, x, y) => {
      const distance = (dot) => (x(dot.rate) - atX) ** 2 + (y(dot.share) - atY) ** 2;
      const best = dots.reduce((a, b) => distance(b) < distance(a) ? b : a);
      return distance(best) > 400 ? null : {x: x(best.rate), y: y(best.share), text: windowText(best.one)};
    },
  });
}

// Requests that were not good, by the stage that took most of the budget or by what ended them.
function missedStages() {
  const bars = [];
  if (summary.attainment) {
    for (const [stage, count] of Object.entries(summary.attainment.missed_by_stage)) {
      bars.push({name: stage === 'unknown' ? 'stage not told' : stage, count, color: '--miss'});
    }
  }
  for (const one of summary.failures) bars.push({name: one.reason, count: one.count, color: '--lost'});
  const card = $('missed');
  if (bars.length === 0) return card.remove();
  bars.sort((a, b) => b.count - a.count);
  element(card, 'h2', {}, 'Where good requests were lost');
  keys(card, [['--miss', 'missed: the stage that took longest'], ['--lost', 'not served']]);
  const most = bars[0].count;
  for (const {name, count, color} of bars) {
    const line = element(card, 'div', {class: 'bar'});
    element(line, 'span', {}, name);
    element(line, 'i', {style: `width: ${40 * count / most}%; background: var(${color})`});
    element(line, 'b', {}, show(count, 0));
  }
}

function latencies() {
  const card = $('latencies');
  element(card, 'h2', {}, 'Latencies, ms');
  const row = (name, values) => [name, ...['mean', 'p50', 'p90', 'p99', 'max'].map((key) => show(values[key])),
                                 show(values.count, 0)];
  table(card, ['', 'mean', 'p50', 'p90', 'p99', 'max', 'samples'], [
    row('Time to first token', summary.ttft_ms), row('Time per output token', summary.tpot_ms),
    row('Inter-token latency', summary.itl_ms), row('Largest gap of a request', summary.max_itl_ms),
    row('First to second token', summary.gap2_ms), row('End to end', summary.e2e_ms)]);
}

function failures() {
  const card = $('failures');
  if (summary.failures.length === 0) return card.remove();
  element(card, 'h2', {}, 'Requests that were not served');
  table(card, ['reason', 'requests', 'first of them'],
        summary.failures.map((one) => [one.reason, one.count, {wide: one.first_detail}]));
}

function client() {
  const card = $('client');
  element(card, 'h2', {}, 'The load generator itself');
  table(card, ['seed', 'CPU s', 'of one core', 'µs per token', 'read lag p99, ms', 'loop lag p99, ms', 'connections'],
        data.runs.map((run) => [run.seed, show(run.client.cpu_s), percent(run.client.cpu_fraction, 1),
                                show(run.client.cpu_per_token_us), show(run.client.read_lag_ms.p99),
                                show(run.client.loop_lag_ms.p99), run.client.connections]));
  element(card, 'p', {class: 'soft'}, `Sent later than intended: p99 ${show(summary.send_late_ms.p99)} ms, ` +
      `at most ${show(summary.send_late_ms.max)} ms.`);
}

$('about').textContent = `${data.model} at ${data.base_url} · ${data.arrivals} · lengths ${data.lengths} · ` +
    `${data.started_at} · ${data.client}` + (data.server ? `, server ${data.server}` : '');
document.title = `Baton benchmark: ${data.model}, ${data.arrivals}`;
$('command').textContent = data.command;
tiles();
if (data.notes.length) {
  const card = element($('notes'), 'section', {class: 'card notes'});
  element(card, 'h2', {}, 'Before you believe it');
  const list = element(card, 'ul');
  for (const note of data.notes) element(list, 'li', {}, note);
}
timeline();
flow('Load over time', [[2, '--good', 'requests in flight'], [1, '--miss', 'arrivals per second']]);
flow('Output tokens per second', [[3, '--good', '']]);
cdf('Time to first token', data.cdf.ttft_ms, 'ttft_ms');
cdf('Time per output token', data.cdf.tpot_ms, 'tpot_ms');
cdf('Inter-token latency', data.cdf.itl_ms);
cdf('End to end', data.cdf.e2e_ms);
attainment();
if (summary.attainment) {
  attainmentOverTime();
  attainmentByRate();
}
missedStages();
latencies();
histogram('Prompt tokens', data.length_histogram.prompt);
histogram('Output tokens', data.length_histogram.output);
failures();
client();
