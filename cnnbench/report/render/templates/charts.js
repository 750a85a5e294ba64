// Each chart is drawn from its data in the page; on a narrow page in its narrow form, again when the width crosses the line.
const narrow = window.matchMedia("(max-width: 760px)");
async function draw() {
  for (const place of document.querySelectorAll(".vega")) {
    const key = place.dataset.chart;
    const read = (prefix) => JSON.parse(document.getElementById(`${prefix}-${key}`).textContent);
    const spec = read("spec")[narrow.matches ? "narrow" : "wide"];
    spec.datasets = { rows: read("data").rows };
    spec.description = place.closest("figure").querySelector("figcaption").textContent;
    await window.vegaEmbed(place, spec, { renderer: "svg", actions: false, tooltip: { theme: "custom" } });
    place.dataset.drawn = "yes";
  }
}
narrow.addEventListener("change", draw);
draw();
