"use strict";
const body = document.body.dataset;
const sections = [...document.querySelectorAll("section")];
const comment = document.getElementById("comment");
const key = "cos-labels/" + body.name;
let state = {at: 0, entries: {}};
try {
  state = {...state, ...JSON.parse(localStorage.getItem(key) || "{}")};
} catch { document.getElementById("unkept").hidden = false; }

const id = () => sections[state.at].dataset.id;
const entry = () => state.entries[id()] || {label: "", step: "", comment: ""};
const count = () => sections[state.at].querySelectorAll("[data-step]").length;
const labelled = (section) => Boolean((state.entries[section.dataset.id] || {}).label);

function show() {
  sections.forEach((section, number) => { section.hidden = number !== state.at; });
  const now = entry();
  for (const button of document.querySelectorAll("[data-label]"))
    button.setAttribute("aria-pressed", String(button.dataset.label === now.label));
  for (const button of sections[state.at].querySelectorAll("[data-step]"))
    button.classList.toggle("first", button.dataset.step === String(now.step));
  comment.value = now.comment;
  const done = sections.filter(labelled).length;
  document.getElementById("bar").value = done;
  document.getElementById("progress").textContent = `${state.at + 1} of ${sections.length}, ${done} labelled`;
}
function set(change) {
  state.entries[id()] = {...entry(), ...change};
  save();
}
function save() {
  try { localStorage.setItem(key, JSON.stringify(state)); } catch { document.getElementById("unkept").hidden = false; }
  show();
}
function go(to) {
  state.at = Math.max(0, Math.min(sections.length - 1, to));
  save();
  window.scrollTo(0, 0);
}
function label(name) {
  set(name === "wrong" ? {label: name} : {label: name, step: ""});
  if (name !== "wrong") go(state.at + 1); // after "wrong", the page waits for the first wrong step
}
function step(number) {
  if (number >= 1 && number <= count()) set({label: "wrong", step: number});
}
function unlabelled() {
  const order = sections.map((_, number) => (state.at + 1 + number) % sections.length);
  const next = order.find((number) => !labelled(sections[number]));
  if (next !== undefined) go(next);
}
function csv() {
  const quoted = (value) => /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
  const rows = sections.map((section) => {
    const {label = "", step = "", comment = ""} = state.entries[section.dataset.id] || {};
    return [section.dataset.number, body.study, section.dataset.id, section.dataset.hash, label, step, comment];
  });
  return [body.fields.split(","), ...rows].map((row) => row.map((value) => quoted(String(value))).join(",") + "\n").join("");
}
function download() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], {type: "text/csv"}));
  link.download = `${body.study}_labels_filled.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const keys = {
  r: () => label("right"), w: () => label("wrong"), u: () => label("unsure"), d: download, n: unlabelled,
  c: () => comment.focus(), Enter: () => go(state.at + 1), ArrowRight: () => go(state.at + 1),
  ArrowLeft: () => go(state.at - 1), Backspace: () => go(state.at - 1),
  ArrowDown: () => step(Math.min(count(), (Number(entry().step) || 0) + 1)),
  ArrowUp: () => step(Math.max(1, (Number(entry().step) || 2) - 1)),
  Delete: () => set({label: "", step: ""}),
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (document.activeElement === comment) {
    if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); comment.blur(); }
    return;
  }
  const act = /^[1-9]$/.test(event.key) ? () => step(Number(event.key)) : keys[event.key];
  if (!act) return;
  event.preventDefault();
  if (document.activeElement instanceof HTMLElement) document.activeElement.blur();
  act();
});
comment.addEventListener("input", () => {
  state.entries[id()] = {...entry(), comment: comment.value};
  save();
});
document.querySelectorAll("[data-label]").forEach((button) => button.addEventListener("click", () => label(button.dataset.label)));
document.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => step(Number(button.dataset.step))));
document.getElementById("back").addEventListener("click", () => go(state.at - 1));
document.getElementById("next").addEventListener("click", () => go(state.at + 1));
document.getElementById("download").addEventListener("click", download);
go(Math.min(state.at, sections.length - 1));
