"use strict";
// The page is complete without this script. It replaces the static figures with interactive ones,
// drawn by Bokeh, and makes tables sortable. Nothing is fetched.
(() => {
  const data = JSON.parse(document.getElementById("rkkd-data").textContent);
  const drawn = []; // a {panel, model} for each figure with curves
  const models = [];
  const MANY_ROWS = 12; // of a table that is worth a filter

  const checked = (name) =>
    [...document.querySelectorAll(`#controls input[name=${name}]`)]
      .filter((box) => box.checked)
      .map((box) => box.value);

  const chosenSeeds = () => (data.seeds.length > 1 ? checked("seed") : data.seeds);

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

  // The mean of the known values up to `reach` epochs to either side.
  const smooth = (values, reach) =>
    values.map((value, index) => {
      if (value === null || reach === 0) return value;
      const near = values.slice(Math.max(0, index - reach), index + reach + 1);
      return mean(near.filter((neighbour) => neighbour !== null));
    });

  const columns = (line, seeds, reach, logarithmic) => {
    const keys = line.stated ? [""] : seeds.filter((seed) => seed in line.by_seed);
    const series = keys.map((seed) => smooth(line.by_seed[seed], line.stated ? 0 : reach));
    const result = { x: [], y: [], low: [], high: [], spread: [] };
    line.epochs.forEach((epoch, index) => {
      const values = series.map((curve) => curve[index]).filter((value) => value !== null);
      if (values.length === 0) return;
      const centre = mean(values);
      const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
      const n = values.length;
      const deviation = n > 1 ? Math.sqrt(squares / (n - 1)) : 0;
      const flat = deviation <= 1e-9 * Math.max(...values.map(Math.abs)); // no interval
      const spread = line.interval ? (data.tQuantiles[n] * deviation) / Math.sqrt(n) : deviation;
      const [low, high] = [centre - spread, centre + spread];
      result.x.push(epoch);
      result.y.push(centre);
      result.low.push(low);
      result.high.push(high);
      const ends = `(95 %: ${low.toPrecision(3)} to ${high.toPrecision(3)})`;
      const interval = flat ? "" : ends;
      result.spread.push(n < 2 ? "" : line.interval ? interval : `± ${spread.toPrecision(2)}`);
    });
    if (logarithmic) {
      const least = Math.min(...result.y.filter((value) => value > 0)) / 2;
      result.low = result.low.map((value) => Math.max(value, least)); // a band has no end at 0
    }
    return result;
  };

  // The texts of the tooltip: for each epoch of any line, one text per line.
  const probe = (panel, shown) => {
    const epochs = [...new Set(panel.lines.flatMap((line) => line.epochs))].sort((a, b) => a - b);
    const result = { x: epochs, y: epochs.map(() => NaN) };
    panel.lines.forEach((line, number) => {
      const { x, y, spread } = shown[number] || { x: [], y: [], spread: [] };
      const indexOf = new Map(x.map((epoch, index) => [epoch, index]));
      result[`text-${number}`] = epochs.map((epoch, row) => {
        const index = indexOf.get(epoch);
        if (index === undefined) return `${line.label}: –`;
        if (Number.isNaN(result.y[row]) && !line.own_axis) result.y[row] = y[index];
        return `${line.label}: ${y[index].toPrecision(5)} ${spread[index]}`;
      });
    });
    return result;
  };

  const update = () => {
    const groups = new Set(checked("group").map(Number));
    const seeds = chosenSeeds();
    const slider = document.getElementById("smoothing");
    const reach = slider ? Number(slider.value) : 0;
    for (const { panel, model } of drawn) {
      const shown = {};
      panel.lines.forEach((line, number) => {
        const values = columns(line, seeds, reach, panel.logarithmic);
        const visible = line.groups.every((group) => groups.has(group)) && values.x.length > 0;
        if (visible) shown[number] = values;
        for (const renderer of model.renderers) {
          const isLine = renderer.tags.includes(number);
          if (isLine && values.x.length > 0) renderer.data_source.data = values;
          if (isLine || renderer.name === `band-${number}`) renderer.visible = visible;
        }
      });
      const tooltip = model.renderers.find((renderer) => renderer.data_source?.name === "probe");
      if (tooltip) tooltip.data_source.data = probe(panel, shown);
    }
    const epochs = 2 * reach + 1;
    if (slider) {
      const window = reach ? `Mean over ${epochs} epochs` : "Each epoch alone";
      document.getElementById("window").textContent = window;
      slider.setAttribute("aria-valuetext", window);
    }
    document.getElementById("status").textContent =
      `Showing ${groups.size} of ${data.groups.length} ` +
      (data.groups.length === 1 ? "curve, " : "curves, ") +
      (seeds.length === 1 ? "one seed" : `${seeds.length} seeds`) +
      (reach ? `, each value the mean over ${epochs} epochs.` : ".");
  };

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const [text, line, grid] = ["--text", "--line", "--grid"].map((name) =>
      style.getPropertyValue(name).trim(),
    );
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    for (const model of models) {
      for (const side of ["left", "right", "above", "below", "center"]) {
        for (const part of model[side]) {
          if (part.axis_label_text_color !== undefined) {
            part.axis_label_text_color = part.major_label_text_color = text;
            part.axis_line_color = part.major_tick_line_color = line;
          } else if (part.grid_line_color !== undefined && !model.tags.includes("plain")) {
            part.grid_line_color = grid;
          } else if (part.major_label_text_color !== undefined) {
            part.major_label_text_color = text; // a scale of colours
          }
        }
      }
    }
    const shade = (colour) => (dark && data.onDark[colour]) || colour;
    for (const { panel, model } of drawn) {
      for (const renderer of model.renderers) {
        const line = panel.lines[renderer.tags[0]];
        if (line) renderer.glyph.line_color = shade(line.colour);
        if (renderer.name === "drops") renderer.glyph.line_color = shade(data.dropColour);
        if (renderer.name === "zero") renderer.glyph.line_color = text;
        const band = renderer.name && renderer.name.match(/^band-(\d+)$/);
        if (band && renderer.glyph.fill_color !== undefined) {
          renderer.glyph.fill_color = shade(panel.lines[Number(band[1])].colour);
        }
      }
    }
    document.querySelectorAll(".swatch").forEach((swatch) => {
      swatch.style.background = shade(swatch.dataset.colour);
    });
  };

  // Put the first values of the lines into the Bokeh item, so that it is never drawn without any.
  const fill = (part, panel) => {
    if (part === null || typeof part !== "object") return;
    const name = part.name === "ColumnDataSource" ? part.attributes.name : null;
    if (name && name.startsWith("line-")) {
      const line = panel.lines[Number(name.slice("line-".length))];
      part.attributes.data = { type: "map", entries: Object.entries(columns(line, data.seeds, 0, panel.logarithmic)) };
    } else {
      for (const inner of Object.values(part)) fill(inner, panel);
    }
  };

  const embed = async (item) => {
    const views = await Bokeh.embed.embed_item(item);
    const view = views.roots ? views.roots[0] : Object.values(views)[0];
    models.push(view.model);
    return view.model;
  };

  const draw = async () => {
    document.documentElement.classList.add("drawn");
    Bokeh.set_log_level("error"); // no warning where nothing is visible
    for (const panel of data.panels) fill(panel.item, panel);
    for (const panel of data.panels) drawn.push({ panel, model: await embed(panel.item) });
    for (const item of data.figures) await embed(item);
    const controls = document.getElementById("controls");
    controls.addEventListener("input", update);
    controls.addEventListener("submit", (event) => event.preventDefault());
    for (const button of controls.querySelectorAll("button[data-all]")) {
      button.addEventListener("click", () => {
        for (const box of controls.querySelectorAll("label:not([hidden]) > input[name=group]")) {
          box.checked = button.dataset.all === "1";
        }
        update();
      });
    }
    document.getElementById("filter")?.addEventListener("input", (event) => {
      const labels = [...controls.querySelectorAll(".choices label")];
      filter(labels.filter((label) => label.querySelector("input[name=group]")), event.target.value);
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
    colours();
    update();
    document.documentElement.dataset.ready = "1";
  };

  // Hide the elements without all the words.
  const filter = (elements, text) => {
    const words = text.toLowerCase().split(/\s+/);
    for (const element of elements) {
      const own = element.textContent.toLowerCase();
      element.hidden = !words.every((word) => own.includes(word));
    }
  };

  const filterable = (table) => {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < MANY_ROWS) return;
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "search";
    box.placeholder = "words of a row";
    label.append("Filter ", box);
    table.parentElement.before(label);
    box.addEventListener("input", () => filter(rows, box.value));
  };

  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };

  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // empty cells come last
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const descending = head.getAttribute("aria-sort") === "ascending";
        for (const cell of heads) cell.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", descending ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [first, second] = [key(a, column), key(b, column)];
          const order = compare(first, second);
          return descending && first !== "" && second !== "" ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  };

  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll("table.sortable").forEach(filterable);
  draw().catch((error) => {
    document.documentElement.classList.remove("drawn"); // the static figures are there
    throw error;
  });
})();
