"use strict";
// Sort a table by the column whose button is pressed; a second time the other way round.
for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const body = head.closest("table").tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const before = head.getAttribute("aria-sort");
    const up = before ? before !== "ascending" : !head.hasAttribute("data-down");
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = (row) => row.children[column].dataset.value ?? row.children[column].textContent.trim();
    const order = (a, b) => {
      const [x, y] = [value(a), value(b)];
      const difference = Number(x) - Number(y);
      return Number.isNaN(difference) ? x.localeCompare(y) : difference;
    };
    const rows = [...body.rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
    body.append(...rows);
  });
}
// Show the ranked lists that fit every choice.
for (const section of document.querySelectorAll(".lists")) {
  const choices = [...section.querySelectorAll("select")];
  const queries = [...section.querySelectorAll(".query")];
  const count = section.querySelector("output");
  const show = () => {
    let shown = 0;
    for (const query of queries) {
      query.hidden = choices.some((one) => one.value && query.dataset[one.name] !== one.value);
      shown += !query.hidden;
    }
    count.textContent = `${shown} of ${queries.length} lists`;
  };
  for (const one of choices) one.addEventListener("change", show);
  show();
}
