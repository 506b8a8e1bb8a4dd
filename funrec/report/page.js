"use strict";
// Draws what the page's data describes. Names become text nodes, never markup; colours follow the reader's mode.
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const make = (tag, text, name) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    if (name) element.className = name;
    return element;
  };

  const layoutOf = (figure, width) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zeroline: false, automargin: true };
    const { xaxis = {}, yaxis = {}, ...rest } = figure.layout;
    return {
      height: 290,
      margin: { l: 48, r: 12, t: 12, b: 40 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", size: 12, color: colour("--text") },
      hoverlabel: { bgcolor: colour("--card"), bordercolor: colour("--line"), font: { color: colour("--text") }, align: "left" },
      legend: { orientation: "h", x: 0, xanchor: "left", y: 1.02, yanchor: "bottom", font: { size: 11, color: colour("--soft") } },
      ...rest,
      xaxis: { ...axis, ...xaxis },
      yaxis: { ...axis, ...yaxis, ...(yaxis.title ? { title: { standoff: 12, ...yaxis.title } } : {}) },
      ...(width < 480 ? { dragmode: false } : {}),
    };
  };

  const draw = (element, figure) => {
    const options = { responsive: true, displaylogo: false, displayModeBar: false };
    const text = getComputedStyle(document.documentElement).getPropertyValue("--text").trim();
    const data = figure.data.map((trace) => {
      if (trace.type !== "heatmap") return trace;
      // Numbers that would run into each other are left to the hover.
      const fits = element.clientWidth > 90 + 40 * trace.x.length;
      return { ...trace, textfont: { color: text }, ...(fits ? {} : { texttemplate: "" }) };
    });
    return Plotly.react(element, data, layoutOf(figure, element.clientWidth), options);
  };

  const drawn = [];
  const redraw = () => drawn.forEach(([element, figure]) => draw(element, figure));
  dark.addEventListener("change", redraw);

  const show = (section, choice, place) => {
    const box = section.querySelector(".figures");
    for (let index = drawn.length - 1; index >= 0; index -= 1) {
      if (box.contains(drawn[index][0])) {
        Plotly.purge(drawn[index][0]);
        drawn.splice(index, 1);
      }
    }
    box.replaceChildren();
    const added = [];
    for (const figure of choice.figures) {
      const frame = make("figure", undefined, figure.is_wide ? "wide" : "");
      const plot = make("div", undefined, "plot");
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", `${figure.title}. ${figure.alt}`);
      frame.append(make("h3", figure.title), plot);
      if (figure.note) frame.append(make("figcaption", figure.note));
      box.append(frame);
      added.push([plot, figure]);
    }
    // Not before all of them are there: a figure takes the width that its neighbours leave it.
    for (const [plot, figure] of added) draw(plot, figure);
    drawn.push(...added);
    if (section.dataset.choice === "run") describe(section, place);
  };

  const explain = (section) => {
    const list = make("ul", undefined, "legend");
    for (const { name, colour } of page.legend) {
      const dot = make("i");
      dot.style.background = colour;
      const item = make("li");
      item.append(dot, name);
      list.append(item);
    }
    section.querySelector(".about").append(list);
  };

  const describe = (section, place) => {
    const run = page.runs[place];
    const about = section.querySelector(".about");
    const more = section.querySelector(".more");
    about.replaceChildren();
    more.replaceChildren();
    if (run.findings.length) {
      const list = make("ul", undefined, "findings");
      for (const message of run.findings) list.append(make("li", `Warning: ${message}`, "warning"));
      about.append(list);
    } else {
      about.append(run.is_diagnosed ? make("p", "✓ The diagnosis found nothing wrong.", "fine") : make("p", "This run was not diagnosed."));
    }
    const facts = make("details");
    const list = make("dl");
    for (const [name, value] of Object.entries({ folder: run.folder, ...run.facts })) list.append(make("dt", name), make("dd", value));
    facts.append(make("summary", "Versions and provenance"), list);
    const config = make("details");
    const text = make("pre");
    text.tabIndex = 0;
    for (const line of run.config) text.append(make(page.common[line] ? "span" : "b", page.lines[line]), "\n");
    config.append(make("summary", "Configuration" + (page.common.every(Boolean) ? "" : " (what differs between runs stands out)")), text);
    more.append(facts, config);
  };

  const loadPlotly = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (letter) => letter.charCodeAt(0));
    const script = make("script");
    script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
    document.head.append(script);
  };

  const drawAll = () => document.querySelectorAll("section[data-choice]").forEach((section) => {
    const choices = page.figures[section.dataset.choice];
    if (!choices.length) return;
    section.hidden = false;
    const select = section.querySelector("select");
    choices.forEach((choice, place) => {
      const count = section.dataset.choice === "run" ? page.runs[place].findings.length : 0;
      const warnings = count ? ` (${count} warning${count > 1 ? "s" : ""})` : "";
      select.append(new Option(choice.name + warnings, String(place)));
    });
    if (choices.length === 1) section.querySelector("label").hidden = section.dataset.choice !== "run";
    select.addEventListener("change", () => show(section, choices[select.value], Number(select.value)));
    if (!["run", "tuning"].includes(section.dataset.choice)) explain(section);
    show(section, choices[0], 0);
  });
  loadPlotly().then(drawAll).then(() => { document.body.dataset.drawn = "true"; }).catch((error) => {
    document.querySelector("main").append(make("p", "The figures need a newer browser (one of 2023 or later)."));
    throw error;
  });

  // A heading sorts by its column: numbers from the highest down first, words from A to Z, empty cells always last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const body = table.tBodies[0];
        const rows = [...body.rows];
        const value = (row) => {
          const cell = row.cells[column];
          if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
          return cell.classList.contains("number") || !cell.textContent ? null : cell.textContent;
        };
        const numeric = rows.some((row) => typeof value(row) === "number");
        const before = head.getAttribute("aria-sort");
        const descending = before ? before === "ascending" : numeric;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        rows.sort((one, other) => {
          const [a, b] = [value(one), value(other)];
          if (a === null || b === null) return (a === null) - (b === null);
          const order = numeric ? a - b : a.localeCompare(b, undefined, { numeric: true });
          return descending ? -order : order;
        });
        body.append(...rows);
      });
    });
  }
})();
