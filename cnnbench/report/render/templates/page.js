"use strict";
// Tables sort within a group, because rows of different groups do not compare; a filter hides rows and empty groups.
// What needs a script is made by it: without one a heading is no button, and there is no filter.
for (const table of document.querySelectorAll(".scroll table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const title = head.querySelector(".title");
    if (!title) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = title.textContent;
    title.replaceWith(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.classList.contains("group"));
        const key = (row) => row.cells[column].dataset.value;
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (x === "" || y === "") return (x === "") - (y === "");  // what is not known stands last either way
          const [p, q] = [Number(x), Number(y)];
          const order = Number.isNaN(p) || Number.isNaN(q) ? x.localeCompare(y, "en", { numeric: true }) : p - q;
          return up ? order : -order;
        });
        body.append(...rows);
      }
    });
  });
}
for (const input of document.querySelectorAll("input[data-filter]")) {
  const table = document.getElementById(input.dataset.filter);
  const count = input.parentElement.querySelector(".count");
  input.parentElement.hidden = false;
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0, all = 0;
    for (const body of table.tBodies) {
      const [group, ...rows] = body.rows;
      let some = false;
      for (const row of rows) {
        const text = (group.textContent + " " + row.textContent).toLowerCase();
        const fits = words.every((word) => text.includes(word));
        row.hidden = !fits;
        some = some || fits;
        shown += fits;
        all += 1;
      }
      group.hidden = !some;
    }
    count.textContent = words.length ? `${shown} of ${all} rows` : "";
  });
}
