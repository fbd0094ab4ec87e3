'use strict';
const data = JSON.parse(document.getElementById('data').textContent);
const summary = data.summary;
const $ = (id) => document.getElementById(id);

// ---- small helpers

function element(parent, tag, attributes, text) {
  const svg = ['svg', 'g', 'path', 'line', 'rect', 'circle', 'text'].includes(tag) ||
      parent.namespaceURI === 'http://www.w3.org/2000/svg';
  const node = svg ? document.createElementNS('http://www.w3.org/2000/svg', tag)
                   : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}

function show(value, digits) {
  if (value === undefined || value === null || !isFinite(value)) return '–';
  const size = Math.abs(value);
  const places = digits !== undefined ? digits : size >= 100 ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString('en-US', {minimumFractionDigits: 0, maximumFractionDigits: places});
}
const percent = (part, whole) => whole ? show(100 * part / whole, 1) + ' %' : '–';

function table(parent, head, rows) {
  const box = element(parent, 'div', {class: 'scroll'});
  const node = element(box, 'table');
  const top = element(element(node, 'thead'), 'tr');
  for (const cell of head) element(top, 'th', {}, cell);
  const body = element(node, 'tbody');
  for (const row of rows) {
    const line = element(body, 'tr');
    for (const cell of row) {
      if (cell && cell.wide !== undefined) element(line, 'td', {class: 'wide'}, cell.wide);
      else element(line, 'td', {}, cell);
    }
  }
}

function keys(parent, entries) {
  const line = element(parent, 'p');
  for (const [color, text] of entries) {
    const key = element(line, 'span', {class: 'key'});
    element(key, 'i', {style: `background: var(${color})`});
    key.append(text);
  }
}

// ---- scales

function linear(low, high, from, to) {
  const scale = (value) => from + (value - low) / ((high - low) || 1) * (to - from);
  scale.invert = (at) => low + (at - from) / (to - from) * (high - low);
  scale.ticks = [];
  const raw = ((high - low) || 1) / 5;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw);
  for (let tick = Math.ceil(low / step) * step; tick <= high * 1.0000001; tick += step) {
    scale.ticks.push(tick);
  }
  return scale;
}

function logarithmic(low, high, from, to) {
  const inner = linear(Math.log10(low), Math.log10(high), from, to);
  const scale = (value) => inner(Math.log10(Math.max(value, low)));
  scale.invert = (at) => 10 ** inner.invert(at);
  scale.ticks = [];
  const decades = Math.log10(high / low);
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); ++power) {
    for (const factor of decades > 3 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5]) {
      const tick = factor * 10 ** power;
      if (tick >= low && tick <= high) scale.ticks.push(tick);
    }
  }
  return scale;
}

const latencyScale = (low, high, from, to) =>
    high / Math.max(low, 1e-3) > 30 ? logarithmic(Math.max(low, 1e-3), high, from, to)
                                    : linear(0, high, from, to);

// ---- plots

// Draws axes into `parent` and calls `draw(svg, x, y)`; redraws when the width changes.
function plot(parent, options) {
  const box = element(parent, 'div', {class: 'plot'});
  const tip = element(box, 'div', {class: 'tip'});
  const height = options.height || 220;
  const margin = {left: 46, right: 10, top: 10, bottom: 32};
  let width = 0;
  function render() {
    if (box.clientWidth === width || box.clientWidth === 0) return;
    width = box.clientWidth;
    const old = box.querySelector('svg');
    if (old) old.remove();
    const svg = element(box, 'svg', {viewBox: `0 0 ${width} ${height}`, height, role: 'img',
                                     'aria-label': options.label});
    const x = options.x(margin.left, width - margin.right);
    const y = options.y(height - margin.bottom, margin.top);
    for (const tick of y.ticks) {
      const at = y(tick);
      element(svg, 'line', {x1: margin.left, x2: width - margin.right, y1: at, y2: at, stroke: 'var(--grid)'});
      element(svg, 'text', {x: margin.left - 6, y: at + 4, 'text-anchor': 'end'},
              options.yText ? options.yText(tick) : show(tick));
    }
    for (const tick of x.ticks) {
      element(svg, 'text', {x: x(tick), y: height - margin.bottom + 15, 'text-anchor': 'middle'},
              options.xText ? options.xText(tick) : show(tick));
    }
    element(svg, 'line', {x1: margin.left, x2: width - margin.right, y1: height - margin.bottom,
                          y2: height - margin.bottom, stroke: 'var(--line)'});
    element(svg, 'text', {x: width - margin.right, y: height - 3, 'text-anchor': 'end'}, options.xName);
    options.draw(svg, x, y);
    if (!options.hover) return;
    svg.onmousemove = (event) => {
      const area = svg.getBoundingClientRect();
      const found = options.hover(event.clientX - area.left, event.clientY - area.top, x, y);
      tip.style.display = found ? 'block' : 'none';
      if (!found) return;
      tip.textContent = found.text;
      tip.style.left = Math.max(0, Math.min(found.x + 10, width - tip.offsetWidth)) + 'px';
      tip.style.top = (found.y - 30) + 'px';
    };
    svg.onmouseleave = () => { tip.style.display = 'none'; };
  }
  new ResizeObserver(render).observe(box);
  render();
}

const pathOf = (points) =>
    points.map(([x, y], i) => (i ? 'L' : 'M') + x.toFixed(1) + ' ' + y.toFixed(1)).join('');

function sloLines(svg, x, y, which) {
  for (const slo of data.classes) {
    const bound = slo[which];
    if (bound === null || bound > x.invert(1e9)) continue;
    const at = x(bound);
    element(svg, 'line', {x1: at, x2: at, y1: y(0), y2: y(1), stroke: 'var(--slo)',
                          'stroke-dasharray': '4 3', 'stroke-width': 1.5});
    element(svg, 'text', {x: at - 5, y: y(0) - 6, 'text-anchor': 'end', style: 'fill: var(--slo)'},
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
  element(card, 'p', {class: 'soft'}, 'Height: time to first token. Not served: at the top edge.' + thinned);
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

function flow() {
  const card = $('flow');
  element(card, 'h2', {}, 'Load over time');
  keys(card, [['--good', 'requests in flight'], ['--miss', 'arrivals per second']]);
  const bins = data.flow;  // [s, arrivals/s, in flight, tokens/s]
  const high = Math.max(1, ...bins.map((bin) => Math.max(bin[1], bin[2]))) * 1.1;
  const lines = [[2, '--good'], [1, '--miss']];
  plot(card, {
    label: 'arrivals and requests in flight', height: 180, xName: 's',
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
      return {x: x(bin[0]), y: y(bin[2]), text: `${show(bin[0])} s: ${show(bin[1], 1)} arrivals/s, ` +
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
  tile('TTFT', show(summary.ttft_ms.p50), `ms median, ${show(summary.ttft_ms.p99)} p99`);
  tile('TPOT', show(summary.tpot_ms.p50), `ms median, ${show(summary.tpot_ms.p99)} p99`);
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

function latencies() {
  const card = $('latencies');
  element(card, 'h2', {}, 'Latencies, ms');
  const row = (name, values) => [name, ...['mean', 'p50', 'p90', 'p99', 'max'].map((key) => show(values[key])),
                                 values.count];
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
flow();
cdf('Time to first token', data.cdf.ttft_ms, 'ttft_ms');
cdf('Time per output token', data.cdf.tpot_ms, 'tpot_ms');
cdf('Inter-token latency', data.cdf.itl_ms, 'tpot_ms');
attainment();
latencies();
histogram('Prompt tokens', data.length_histogram.prompt);
histogram('Output tokens', data.length_histogram.output);
failures();
client();
