"use strict";
// Draws the figures. Colours are names of the style sheet, so that they follow the theme, and light on paper.
(() => {
  const specs = JSON.parse(document.getElementById("figures").textContent);
  const coarse = matchMedia("(pointer: coarse)").matches;
  const config = { displayModeBar: false };
  const name = /^var\((--[a-z0-9-]+)\)$/;

  function coloured(value, style) {
    if (Array.isArray(value)) return value.map((item) => coloured(item, style));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, coloured(item, style)]));
    const found = typeof value === "string" && name.exec(value);
    return found ? style.getPropertyValue(found[1]).trim() || value : value;
  }

  function axis(own, style) {
    return { automargin: true, gridcolor: style.getPropertyValue("--grid").trim(), zeroline: false,
      linecolor: style.getPropertyValue("--soft").trim(), tickcolor: style.getPropertyValue("--soft").trim(),
      ...own, title: { standoff: 8, ...own.title, font: { size: 12, color: style.getPropertyValue("--soft").trim() } } };
  }

  function layout(spec, style, size) {
    const colour = (key) => style.getPropertyValue(key).trim();
    const full = coloured(spec.layout, style);
    return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: coarse ? false : "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--ink") },
      margin: { l: 40, r: 12, t: 12, b: 36 }, hoverlabel: { align: "left" },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.03, yanchor: "bottom", traceorder: "normal" },
      showlegend: true, ...full, ...size, xaxis: axis(full.xaxis || {}, style), yaxis: axis(full.yaxis || {}, style) };
  }

  // Pixels on paper, whatever the screen: of a page, of two or of three figures side by side.
  const room = (place) => (place.closest(".panels") ? 210 : place.closest(".pair") ? 325 : 660);

  function draw(paper) {
    const style = getComputedStyle(document.documentElement);
    for (const [id, spec] of Object.entries(specs)) {
      const place = document.getElementById(id);
      if (!place) continue;
      const box = { width: paper ? room(place) : place.clientWidth, height: place.clientHeight, autosize: false };
      Plotly.react(place, coloured(spec.data, style), layout(spec, style, box), config);
    }
  }

  draw(false);
  let drawn = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === drawn) return; // a phone hides its address bar
    drawn = innerWidth;
    draw(false);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw(false));
  addEventListener("beforeprint", () => { document.documentElement.classList.add("paper"); draw(true); draw(true); });
  addEventListener("afterprint", () => { document.documentElement.classList.remove("paper"); draw(false); });
})();
