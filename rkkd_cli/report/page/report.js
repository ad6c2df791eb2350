"use strict";
// The page is complete without this script. It replaces the static figures with interactive ones,
// drawn by Bokeh, and makes tables sortable. Nothing is fetched.
(() => {
  const data = JSON.parse(document.getElementById("rkkd-data").textContent);
  const drawn = []; // a {panel, model} for each figure with curves
  const models = [];

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

  const columns = (line, seeds, reach) => {
    const keys = line.published ? [""] : seeds.filter((seed) => seed in line.by_seed);
    const series = keys.map((seed) => smooth(line.by_seed[seed], line.published ? 0 : reach));
    const result = { x: [], y: [], low: [], high: [], spread: [] };
    line.epochs.forEach((epoch, index) => {
      const values = series.map((curve) => curve[index]).filter((value) => value !== null);
      if (values.length === 0) return;
      const centre = mean(values);
      const squares = values.reduce((sum, value) => sum + (value - centre) ** 2, 0);
      const spread = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
      result.x.push(epoch);
      result.y.push(centre);
      result.low.push(centre - spread);
      result.high.push(centre + spread);
      result.spread.push(values.length > 1 ? `± ${spread.toPrecision(2)}` : "");
    });
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
        const values = columns(line, seeds, reach);
        const visible = groups.has(line.group) && values.x.length > 0;
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
      document.getElementById("window").textContent = epochs;
      slider.setAttribute("aria-valuetext", `mean over ${epochs} epochs`);
    }
    document.getElementById("status").textContent =
      `Showing ${groups.size} of ${data.groups.length} curves, ` +
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
          }
        }
      }
    }
    const shade = (colour) => (dark && data.onDark[colour]) || colour;
    for (const { panel, model } of drawn) {
      for (const renderer of model.renderers) {
        const line = panel.lines[renderer.tags[0]];
        if (line) renderer.glyph.line_color = shade(line.colour);
      }
    }
    document.querySelectorAll(".swatch").forEach((swatch, number) => {
      swatch.style.background = shade(data.groups[number].colour);
    });
  };

  // Put the first values of the lines into the Bokeh item, so that it is never drawn without any.
  const fill = (part, panel) => {
    if (part === null || typeof part !== "object") return;
    const name = part.name === "ColumnDataSource" ? part.attributes.name : null;
    if (name && name.startsWith("line-")) {
      const line = panel.lines[Number(name.slice("line-".length))];
      part.attributes.data = { type: "map", entries: Object.entries(columns(line, data.seeds, 0)) };
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
        for (const box of controls.querySelectorAll("input[name=group]")) {
          box.checked = button.dataset.all === "1";
        }
        update();
      });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", colours);
    colours();
    update();
    document.documentElement.dataset.ready = "1";
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
  draw().catch((error) => {
    document.documentElement.classList.remove("drawn"); // the static figures are there
    throw error;
  });
})();
