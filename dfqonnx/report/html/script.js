"use strict";
// Sorts a table by the column whose heading is clicked: numbers by value, all else as text.
function key(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = text === "" ? NaN : Number(text.replace(/,/g, ""));
  return [Number.isNaN(number) ? null : number, text];
}
function compare(a, b) {
  if (a[1] === "" || b[1] === "") return (a[1] === "") - (b[1] === "") || 0;
  if (a[0] !== null && b[0] !== null) return a[0] - b[0];
  return a[1].localeCompare(b[1], undefined, { numeric: true });
}
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      const body = table.tBodies[0];
      const rows = [...body.rows].map((row) => [key(row.cells[column]), row]);
      rows.sort((a, b) => {
        const empty = (a[0][1] === "") - (b[0][1] === "");
        return empty || (down ? compare(b[0], a[0]) : compare(a[0], b[0]));
      });
      body.append(...rows.map((pair) => pair[1]));
      for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
    });
  });
}
// A link into a collapsed part expands it.
function expand() {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  const collapsed = target && target.closest("details");
  if (collapsed && !collapsed.open) {
    collapsed.open = true;
    target.scrollIntoView();
  }
}
addEventListener("hashchange", expand);
expand();
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "copied";
  });
}
