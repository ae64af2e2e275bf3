// Sorting by a table's heads and one filter over all tables. Without it the page says the same.
"use strict";
(() => {
  const said = document.getElementById("said");
  const order = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
  const keyOf = (row, at) => row.cells[at].dataset.key ?? row.cells[at].textContent;

  const compare = {
    number: (a, b) => Number(a) - Number(b),
    text: order.compare,
  };

  function sort(head) {
    const table = head.closest("table");
    const body = table.tBodies[0];
    const numeric = head.dataset.sort === "number";
    const before = head.ariaSort;
    // Numbers begin with the largest: that is what one looks for.
    const up = before === null ? !numeric : before === "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.ariaSort = up ? "ascending" : "descending";
    const at = head.cellIndex;
    const keyed = [...body.rows].map((row) => [keyOf(row, at), row]);
    keyed.sort(([a], [b]) => compare[head.dataset.sort](a, b) * (up ? 1 : -1));
    body.append(...keyed.map(([, row]) => row));
    said.textContent = `Sorted by ${head.textContent.trim()}, ${head.ariaSort}.`;
  }

  for (const head of document.querySelectorAll("th[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    head.dataset.name = head.textContent;
    button.append(...head.childNodes);
    button.addEventListener("click", () => sort(head));
    head.append(button);
  }

  const filter = document.getElementById("filter");
  const look = document.getElementById("look");
  const shown = document.getElementById("shown");
  const rows = [...document.querySelectorAll("main tbody tr")].map((row) => [row, row.textContent.toLowerCase()]);

  function sift() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = words.length === 0 && !look.checked;
    let count = 0;
    for (const [row, text] of rows) {
      const fits = (!look.checked || row.hasAttribute("data-look")) && words.every((word) => text.includes(word));
      row.hidden = !fits;
      count += fits;
    }
    shown.textContent = all ? "" : `${count} of ${rows.length} rows`;
    for (const section of document.querySelectorAll("main section")) mark(section, all);
  }

  // A page that is printed while rows are hidden must say so.
  function mark(section, all) {
    section.querySelector(".filtered-out")?.remove();
    const hidden = section.querySelectorAll("tbody tr[hidden]").length;
    if (all || !hidden) return;
    const note = document.createElement("p");
    note.className = "filtered-out";
    note.textContent = `${hidden} ${hidden === 1 ? "row is" : "rows are"} hidden by the filter.`;
    section.querySelector("h2").after(note);
  }

  filter.addEventListener("input", sift);
  look.addEventListener("change", sift);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && document.activeElement === filter) {
      filter.value = "";
      sift();
    }
  });
  document.querySelector(".tools").hidden = false;

  // The table heads stick below the navigation, which may wrap. A table that is wider than the window scrolls by itself,
  // by keyboard too, and its head then cannot stick.
  const nav = document.querySelector("nav");
  function measure() {
    document.documentElement.style.setProperty("--nav", `${nav.offsetHeight}px`);
    for (const wide of document.querySelectorAll(".wide")) {
      const scrolls = wide.scrollWidth > wide.clientWidth;
      wide.classList.toggle("scrolls", scrolls);
      if (scrolls) wide.tabIndex = 0;
      else wide.removeAttribute("tabindex");
    }
  }
  measure();
  addEventListener("resize", measure);
})();
