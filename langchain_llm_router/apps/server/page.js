"use strict";
const $ = id => document.getElementById(id);
const key = new URLSearchParams(location.hash.slice(1)).get("key");
const headers = { "content-type": "application/json", ...(key ? { authorization: "Bearer " + key } : {}) };
const session = { answers: 0, known: 0, spent: 0, would: 0 };
let setup = null, choices = null, newest = 0, timer = 0, moved = false, running = null;

// Small helpers

function element(tag, className = "", ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children.filter(child => child != null));
  return node;
}
function announce(text) { $("status").textContent = text; }
function question() { return $("question").value.trim(); }
function post(path, signal) {
  const body = JSON.stringify({ question: question(), lambda: moved ? dialled() : null });
  return fetch(path, { method: "POST", headers, body, signal });
}
async function problem(response) {
  const text = (await response.json()).error.message;
  return response.status === 401 ? `${text} This page takes the key from its address: end it with #key=YOUR-KEY.` : text;
}

// Asking: every question becomes a turn of the session, the newest first

class Turn {
  constructor(text) {
    this.answer = element("div", "answer");
    this.answer.setAttribute("aria-live", "polite");
    this.by = element("p", "by");
    this.steps = element("ol", "steps");
    this.summary = element("summary", "", "Asking …");
    this.details = element("details", "", this.summary, this.steps);
    this.details.open = true;
    this.drafts = new Map();
    this.accepted = false;
    this.reason = "";
    document.querySelectorAll(".turn details").forEach(old => { old.open = false; });
    this.card = element("article", "card turn", element("h3", "", text), this.answer, this.by, this.details);
    $("turns").prepend(this.card);
    this.settle();
  }
  settle() {
    this.card.scrollIntoView({ block: "nearest" });
    // What scrolls by itself does so with the arrow keys too.
    for (const node of this.card.querySelectorAll("h3, pre, .wide, .said")) {
      if (node.scrollHeight > node.clientHeight || node.scrollWidth > node.clientWidth) node.tabIndex = 0;
    }
  }
  step(kind, title, ...more) {
    const item = element("li", kind, element("b", "", title), ...more);
    this.steps.append(item);
    announce(title);
    return item;
  }
  show(event) {
    const name = event.candidate, reason = event.reason && event.reason !== this.reason ? element("div", "muted", event.reason) : null;
    this.reason = event.reason ?? this.reason;
    if (event.event === "decision" && event.action === "verify") this.step("verdict", `Is the answer of ${name} good enough?`);
    else if (event.event === "decision") {
      this.accepted ||= event.action === "accept";
      this.step(event.action, event.action === "ask" ? `Ask ${name}` : `Keep the answer of ${name}`, reason);
    } else if (event.event === "draft" && event.error) this.step("failed", `${name} failed`, element("div", "", event.error));
    else if (event.event === "draft") {
      const said = element("div", "said", event.text || "(no text)");
      this.step("draft", `${name} answers`, said);
      this.drafts.set(name, said);
      this.settle();
    } else if (event.event === "verdict") this.judge(event);
  }
  judge(event) {
    const votes = element("span", "votes");
    const signs = { true: ["y", "✓"], false: ["n", "✗"] };
    for (const verdict of event.verdicts ?? []) {
      const [className, sign] = signs[verdict] ?? ["", "·"];
      votes.append(element("span", className, sign));
    }
    votes.setAttribute("aria-hidden", "true");
    const text = event.confidence == null ? "No verdict." : `Score ${score(event.confidence)} of 1.`;
    const item = this.steps.lastElementChild ?? this.step("verdict", `Verdict on ${event.candidate}`);
    item.append(element("div", "", text + " ", votes));
    announce(text);
  }
  finish({ text, record, baseline }) {
    const name = record.candidate, said = this.drafts.get(name);
    if (!this.accepted) this.step("accept", `Keep the answer of ${name}`, element("div", "muted", record.reason));
    // What was kept is shown once, as the answer.
    if (said) said.replaceWith(element("div", "muted", "This became the answer."));
    this.answer.append(...renderMarkdown(text));
    const parts = [element("span", "", "by ", element("b", "", name)), element("span", "", record.cost_usd == null ? "cost unknown" : money(record.cost_usd))];
    if (record.cost_usd != null && baseline.cost_usd != null) {
      const less = baseline.cost_usd - record.cost_usd;
      const words = less === 0 ? "as much as" : less > 0 ? `${money(less)} less than` : `${money(-less)} more than`;
      parts.push(element("span", less > 0 ? "less" : less < 0 ? "more" : "", `${words} ${baseline.candidate} alone`));
    }
    this.by.append(...parts);
    this.summary.textContent = `Why ${name}?`;
    announce(`Answer of ${name}.`);
    this.settle();
    book(record.cost_usd, baseline);
  }
  fail(text) {
    this.step("failed", "No answer", element("div", "", text));
    this.summary.textContent = "What happened";
  }
}
async function ask() {
  if (running || !question()) { $("question").focus(); return; }
  running = new AbortController();
  choose();
  $("send").textContent = "Stop";
  $("start").open = false;
  const turn = new Turn(question());
  try {
    const response = await post("/live/ask", running.signal);
    if (!response.ok) throw new Error(await problem(response));
    await read(response.body, turn);
  } catch (error) { turn.fail(error.name === "AbortError" ? "Stopped." : error.message); }
  running = null;
  $("send").textContent = "Ask";
  $("question").focus({ preventScroll: true });
  $("question").setSelectionRange(0, $("question").value.length);
}
async function read(body, turn) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const [, kind, data] = part.match(/^event: (\w+)\ndata: (.*)$/s);
      const parsed = JSON.parse(data);
      if (kind === "step") turn.show(parsed);
      else if (kind === "answer") turn.finish(parsed);
      else turn.fail(parsed.message);
    }
  }
}
function book(cost, baseline) {
  session.answers += 1;
  if (cost != null && baseline.cost_usd != null) {
    session.known += 1;
    session.spent += cost;
    session.would += baseline.cost_usd;
  }
  const saved = session.would - session.spent, known = session.known > 0, unknown = session.answers - session.known;
  $("count").textContent = session.answers;
  $("spent").textContent = known ? money(session.spent) : "unknown";
  $("would").textContent = known ? money(session.would) : "unknown";
  $("saved-label").textContent = saved < 0 ? "Extra cost" : "Saved";
  $("saved").textContent = !known ? "unknown" : money(Math.abs(saved)) + (session.would > 0 ? ` (${percent(Math.abs(saved) / session.would)})` : "");
  $("money-help").textContent = unknown ? `The money of ${unknown} of ${session.answers} answers is unknown and left out.` : moneyHelp();
}
function moneyHelp() { return setup ? `Compared with asking ${setup.baseline} alone, at the same numbers of tokens.` : ""; }

// λ: quality per USD, so more of it is cheaper

function dialled() { return Math.pow(10, -1 + $("lambda").value / 20); }
function currentLambda() { return moved ? dialled() : choices?.lambda ?? setup?.lambda ?? null; }
function describeDial() {
  const lambda = currentLambda(), own = moved ? "" : "The router's own setting: ";
  const rounded = lambda == null ? "" : lambda < 100 ? String(+lambda.toPrecision(2)) : Math.round(lambda).toLocaleString("en");
  const text = lambda == null ? "The router's own setting; move the dial to decide by λ instead."
    : lambda === 0 ? `${own}cost does not count.`
    : `${own}one more point of quality may cost ${money(10 / lambda)} per 1,000 answers (λ = ${rounded} per USD).`;
  $("lambda-value").textContent = text[0].toUpperCase() + text.slice(1);
  $("lambda").setAttribute("aria-valuetext", text);
  $("own").hidden = !moved;
  $("dial").className = moved ? "" : "own";
}
function resetDial() {
  moved = false;
  if (setup.lambda) $("lambda").value = Math.round(20 * (Math.log10(setup.lambda) + 1));
  describeDial();
  draw();
}

// What is expected of each candidate before it is asked

async function choose() {
  clearTimeout(timer);
  if (!question()) return;
  const turn = ++newest;
  try {
    const response = await post("/live/choices");
    if (!response.ok) return;
    const found = await response.json();
    if (turn === newest) { choices = found; draw(); describeDial(); }
  } catch { /* the server is gone: asking will say so */ }
}
function best(arms) {
  const lambda = currentLambda();
  if (!choices.heeds_lambda || choices.verifies || lambda == null) return null;
  const worth = arm => arm.quality - lambda * arm.cost_usd;
  const known = arms.filter(arm => arm.quality != null && (arm.cost_usd != null || lambda === 0));
  return known.length ? known.reduce((a, b) => worth(b) > worth(a) ? b : a) : null;
}
function draw() {
  if (choices === null) return;
  const chosen = best(choices.arms), known = choices.arms.some(arm => arm.quality != null);
  $("arms").replaceChildren(...choices.arms.map(arm => {
    const figures = [arm.quality == null ? null : percent(arm.quality), `${money(arm.cost_usd)}${arm.cost_usd == null ? " cost" : ""}`].filter(Boolean).join(" · ");
    const row = candidateRow(arm.candidate, figures, arm === chosen);
    if (arm.quality != null) {
      const fill = element("i");
      fill.style.width = 100 * Math.min(1, Math.max(0, arm.quality)) + "%";
      row.append(element("div", "bar", fill));
    }
    return row;
  }));
  $("arms-help").textContent = choices.verifies ? "A cascade: the first is asked, and its answer decides whether another is." : known ? "Expected quality and cost of this answer." : "The expected cost of this answer; quality is not predicted.";
  drawCurve(chosen);
}
function candidateRow(name, figures, chosen) {
  return element("li", chosen ? "chosen" : "", element("div", "row", element("b", "", name), element("span", "muted", figures)));
}
function drawCurve(chosen) {
  const width = 360, height = 190, left = 44, right = 16, top = 26, bottom = 40;
  const points = [...new Map(choices.curve.map(p => [p.candidate, p])).values()].sort((a, b) => a.cost_usd - b.cost_usd);
  if (points.length < 2) { $("curve").replaceChildren(); return; }
  const make = (tag, attributes, text = "") => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.textContent = text;
    return node;
  };
  const scale = (values, from, to) => {
    const low = Math.min(...values), span = Math.max(...values) - low || 1;
    return value => from + (to - from) * (value - low) / span;
  };
  const log = p => Math.log10(Math.max(p.cost_usd, 1e-9));
  const x = scale(points.map(log), left, width - right), y = scale(points.map(p => p.quality), height - bottom, top);
  const first = points[0], last = points[points.length - 1];
  const shapes = [make("path", { class: "line", d: points.map((p, i) => `${i ? "L" : "M"}${x(log(p))} ${y(p.quality)}`).join("") })];
  for (const p of points) {
    const on = p.candidate === chosen?.candidate, behind = x(log(p)) > width / 2;
    shapes.push(make("circle", { cx: x(log(p)), cy: y(p.quality), r: on ? 7 : 4, class: on ? "on" : "" }));
    if (on) shapes.push(make("text", { class: "label", x: x(log(p)) + (behind ? -11 : 11), y: y(p.quality) + (behind ? 18 : -9), "text-anchor": behind ? "end" : "start" }, p.candidate));
  }
  shapes.push(
    make("text", { x: 0, y: 12 }, "expected quality ↑"), make("text", { x: 0, y: y(first.quality) + 4 }, percent(first.quality)), make("text", { x: 0, y: y(last.quality) + 4 }, percent(last.quality)),
    make("text", { x: left, y: height - 20 }, money(first.cost_usd)), make("text", { x: width - right, y: height - 20, "text-anchor": "end" }, money(last.cost_usd)),
    make("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, "cost of the answer →"),
  );
  const picture = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Candidates that are best at some λ: " + points.map(p => `${p.candidate} ${percent(p.quality)} at ${money(p.cost_usd)}`).join(", ") });
  picture.append(...shapes);
  $("curve").replaceChildren(picture);
}

// The page itself

async function begin() {
  let response;
  try {
    response = await fetch("/live/setup", { headers });
    if (!response.ok) throw new Error(await problem(response));
  } catch (error) { $("arms-help").textContent = error.message; return; }
  setup = await response.json();
  $("verdict").append(...renderMarkdown(setup.verdict ?? ""));
  $("verdict").hidden = !setup.verdict;
  $("examples").append(...setup.examples.map(text => {
    const button = element("button", "", text);
    button.type = "button";
    button.addEventListener("click", () => { $("question").value = text; ask(); });
    return button;
  }));
  $("arms").append(...setup.candidates.map(({ name, price }) => candidateRow(name, price ? `${money(price.input)} in, ${money(price.output)} out per 1M tokens` : "price unknown")));
  $("arms-help").textContent = "What is expected of each appears here while you write.";
  $("would-label").textContent = `With ${setup.baseline} alone`;
  $("money-help").textContent = moneyHelp();
  $("dial").hidden = !setup.heeds_lambda;
  $("no-dial").hidden = setup.heeds_lambda;
  $("no-dial").textContent = setup.verifies ? "This router keeps an answer by its score; it has no dial between quality and cost here." : "This router has no dial between quality and cost.";
  resetDial();
}
function theme(name) {
  if (name) document.documentElement.dataset.theme = name;
  const dark = name ? name === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  $("theme").textContent = dark ? "Light theme" : "Dark theme";
  $("theme").value = dark ? "light" : "dark";
}
function remembered(value) {
  // A browser may refuse to remember anything.
  try { if (value) localStorage.setItem("theme", value); return localStorage.getItem("theme"); } catch { return value ?? null; }
}
$("form").addEventListener("submit", event => { event.preventDefault(); if (running) running.abort(); else ask(); });
$("question").addEventListener("keydown", event => {
  // While a word is being composed, as in Japanese, Enter ends the word.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); ask(); }
});
$("question").addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(choose, 300); });
$("lambda").addEventListener("input", () => { moved = true; describeDial(); draw(); });
$("own").addEventListener("click", () => { resetDial(); $("lambda").focus(); });
$("theme").addEventListener("click", () => { theme($("theme").value); remembered(document.documentElement.dataset.theme); });
theme(remembered());
begin();
