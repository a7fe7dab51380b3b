"use strict";
(() => {
  const table = document.getElementById("matrix");
  const {names, regions} = JSON.parse(document.getElementById("data").textContent);
  const selects = [...document.querySelectorAll("select")];
  const order = ".=~?x";  // the worst last
  const signs = {".": "", "=": "=", "~": "≈", "?": "?", "x": "≠"};
  const kinds = {".": "none", "=": "same", "~": "rounding", "?": "doubtful", "x": "different"};

  // The matrix, for one optimizer and family or for all: the worst of what was seen in any of them

  function show() {
    const [optimizer, family] = selects.map((select) => select.value);
    const seen = regions.filter((each) => (!optimizer || each.target === optimizer) && (!family || each.family === family));
    let different = 0, place = 0;
    for (let i = 0; i < names.length; i++) {
      for (let j = i + 1; j < names.length; j++, place++) {
        let worst = ".";
        for (const {verdicts} of seen) if (order.indexOf(verdicts[place]) > order.indexOf(worst)) worst = verdicts[place];
        different += worst === "x";
        for (const [row, column] of [[i, j], [j, i]]) {
          const cell = table.tBodies[0].rows[row].cells[column + 1];
          cell.className = kinds[worst];
          cell.querySelector("a").textContent = signs[worst];
          cell.querySelector("a").setAttribute("aria-label", `${names[row]} and ${names[column]}: ${kinds[worst]}`);
        }
      }
    }
    document.getElementById("shown").textContent = seen.length ? `${different} of ${place} pairs differ` : "nothing was compared here";
  }
  for (const select of selects) select.addEventListener("change", show);

{% include "details.js" %}

  addEventListener("keydown", (event) => { if (event.key === "Escape") close(); });
  show();
})();
