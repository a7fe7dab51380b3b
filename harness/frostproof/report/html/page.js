"use strict";
(() => {
  const rows = [...document.querySelectorAll("#matrix tbody tr")];
  const search = document.getElementById("search");
  const chosen = {status: "", change: "", device: "", library: "", class: "", invariant: ""};

  // Filters

  function fits(row) {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return (!chosen.status || row.dataset.status === chosen.status)
      && (!chosen.device || row.dataset.device === chosen.device)
      && (!chosen.library || row.dataset.library === chosen.library)
      && (!chosen.class || row.dataset.class.split(" ").includes(chosen.class))
      && (!chosen.change || row.dataset.change.split(" ").includes(chosen.change))
      && (!chosen.invariant || [...row.querySelectorAll("td[data-id]")].some((cell) => cell.dataset.id === chosen.invariant))
      && words.every((word) => row.dataset.words.includes(word));
  }

  function filter() {
    let count = 0;
    for (const row of rows) {
      row.hidden = !fits(row);
      count += !row.hidden;
    }
    document.getElementById("shown").textContent = count === rows.length ? `${count} shown` : `${count} of ${rows.length} shown`;
    document.getElementById("none").hidden = count > 0;
    for (const button of document.querySelectorAll("button[data-filter]"))
      button.setAttribute("aria-pressed", String(chosen[button.dataset.filter] === button.dataset.value));
    for (const select of document.querySelectorAll("select[data-filter]")) select.value = chosen[select.dataset.filter];
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.filter) {
      const {filter: name, value} = button.dataset;
      chosen[name] = chosen[name] === value ? "" : value;
      filter();
    } else if (button.id === "reset") {
      for (const name of Object.keys(chosen)) chosen[name] = "";
      search.value = "";
      filter();
    }
  });
  for (const select of document.querySelectorAll("select[data-filter]"))
    select.addEventListener("change", () => { chosen[select.dataset.filter] = select.value; filter(); });
  search.addEventListener("input", filter);
  search.form.addEventListener("submit", (event) => event.preventDefault());

{% include "details.js" %}
  function step(by) {
    const visible = rows.filter((row) => !row.hidden);
    const anchors = visible.flatMap((row) => [...row.querySelectorAll("td[data-id] a")]).map((link) => link.hash);
    if (!anchors.length) return;
    const at = anchors.indexOf(location.hash);
    location.hash = anchors[at < 0 ? (by > 0 ? 0 : anchors.length - 1) : (at + by + anchors.length) % anchors.length];
  }

  // The keyboard: one stop for the table, arrows inside it

  const table = document.getElementById("matrix");
  for (const link of table.querySelectorAll("tbody a")) link.tabIndex = -1;
  let current = table.querySelector("tbody th");
  if (current) current.tabIndex = 0;

  function move(cell) {
    if (!cell) return;
    current.tabIndex = -1;
    current = cell;
    current.tabIndex = 0;
    current.focus({preventScroll: true});
    const box = table.parentElement, frame = box.getBoundingClientRect(), place = cell.getBoundingClientRect();
    const left = frame.left + table.rows[0].cells[0].offsetWidth, top = frame.top + table.rows[0].offsetHeight;
    if (cell.cellIndex && place.left < left) box.scrollLeft -= left - place.left;
    else if (place.right > frame.right) box.scrollLeft += place.right - frame.right + 8;
    if (place.top < top) box.scrollTop -= top - place.top;
    else if (place.bottom > frame.bottom) box.scrollTop += place.bottom - frame.bottom + 8;
  }

  function beside(row, by) {
    do row = by > 0 ? row.nextElementSibling : row.previousElementSibling; while (row && row.hidden);
    return row;
  }

  table.addEventListener("keydown", (event) => {
    const cell = event.target.closest("tbody td, tbody th");
    if (!cell || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = cell.parentElement;
    const near = (other) => other && (other.cells[cell.cellIndex] ?? other.cells[other.cells.length - 1]);
    const to = {
      ArrowLeft: () => cell.previousElementSibling,
      ArrowRight: () => cell.nextElementSibling,
      ArrowUp: () => near(beside(row, -1)),
      ArrowDown: () => near(beside(row, 1)),
      Home: () => row.cells[0],
      End: () => row.cells[row.cells.length - 1],
    }[event.key];
    if (to) { event.preventDefault(); move(to()); }
    else if (event.key === "Enter") { event.preventDefault(); (cell.querySelector("a") ?? row.querySelector("a")).click(); }
  });
  table.addEventListener("mousedown", (event) => {
    const cell = event.target.closest("tbody td, tbody th");
    if (cell) { current.tabIndex = -1; current = cell; current.tabIndex = 0; }
  });

  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches?.("input, select, textarea");
    if (event.key === "Escape") {
      if (open()) close();
      else if (typing && search.value) { search.value = ""; filter(); }
    } else if (!typing && event.key === "/") { event.preventDefault(); close(); search.focus(); }
    else if (!typing && event.key === "n") step(1);
    else if (!typing && event.key === "p") step(-1);
  });

  filter();
})();
