"use strict";
(() => {
  // Tables are readable without this; with it, their headings sort them.
  const key = (row, column) => {
    const cell = row.cells[column];
    const text = cell.textContent.trim();
    const given = cell.dataset.value;
    return { text, number: given === undefined ? NaN : Number(given), none: text === "-" };
  };
  const compare = (a, b, sign) => {
    if (a.none !== b.none) return a.none ? 1 : -1;
    if (!Number.isNaN(a.number) && !Number.isNaN(b.number)) return sign * (a.number - b.number);
    return sign * a.text.localeCompare(b.text, "en", { numeric: true });
  };
  const sort = (table, heading, column) => {
    const numbers = heading.classList.contains("number");
    const now = heading.getAttribute("aria-sort");
    const first = numbers ? "descending" : "ascending";
    const second = numbers ? "ascending" : "descending";
    const next = now === first ? second : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", next);
    const sign = next === "ascending" ? 1 : -1;
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, key: key(row, column) }));
    rows.sort((a, b) => compare(a.key, b.key, sign));
    for (const { row } of rows) body.append(row);
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells).forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, heading, column));
    });
  }
  // A line above each table that does not fit.
  const parts = Array.from(document.querySelectorAll(".scroll"), (part) => {
    const line = document.createElement("p");
    line.className = "caption more";
    line.textContent = "Scroll sideways for more columns \u2192";
    part.before(line);
    return { part, line };
  });
  const fit = () => {
    for (const { part, line } of parts) {
      line.classList.toggle("shown", part.scrollWidth > part.clientWidth + 1);
    }
  };
  window.addEventListener("resize", fit);
  document.addEventListener("toggle", fit, true);
  fit();
  // Paper cannot be unfolded.
  const closed = [];
  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details:not([open])")) {
      part.open = true;
      closed.push(part);
    }
  });
  window.addEventListener("afterprint", () => {
    while (closed.length) closed.pop().open = false;
  });
})();
