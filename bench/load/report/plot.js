'use strict';
// Elements, scales and plots; page.js follows and says what is drawn.
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
