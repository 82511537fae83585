// The screen as a PNG file: the page as it stands, drawn by the browser itself; nothing leaves it.

const SVG = "http://www.w3.org/2000/svg";
const HTML = "http://www.w3.org/1999/xhtml";

/** Save what is to be seen as `name`.png. */
export async function savePicture(name) {
  const [wide, high] = [innerWidth, innerHeight];
  const scale = devicePixelRatio || 1;
  const image = new Image();
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(await drawn(wide, high))}`;
  await image.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width: wide * scale, height: high * scale });
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.drawImage(image, 0, 0);
  const link = Object.assign(document.createElement("a"), { download: `${name}.png`, href: canvas.toDataURL("image/png") });
  link.click();
}

/** The page within an SVG: its styles written into it, each canvas as its picture, each field with its value. */
async function drawn(wide, high) {
  const page = document.documentElement.cloneNode(true);
  const canvases = document.querySelectorAll("canvas");
  page.querySelectorAll("canvas").forEach((copy, i) => {
    const image = document.createElement("img");
    image.src = canvases[i].toDataURL();
    image.style.cssText = `width:${canvases[i].clientWidth}px;height:${canvases[i].clientHeight}px`;
    copy.replaceWith(image);
  });
  const fields = document.querySelectorAll("input");
  page.querySelectorAll("input").forEach((copy, i) => copy.replaceWith(fields[i].value));
  const sheets = await Promise.all([...document.querySelectorAll("link[rel=stylesheet]")].map(async ({ href }) => (await fetch(href)).text()));
  const style = document.createElement("style");
  // The root of the picture is the SVG: sizes and theme are its own; and it has no window that would scroll.
  style.textContent = `${sheets.join("\n")} :root { font-size: var(--size); } body { width: ${wide}px; height: ${high}px; overflow: hidden; }`;
  page.querySelector("head").replaceChildren(style);
  page.setAttribute("xmlns", HTML);
  const svg = document.createElementNS(SVG, "svg");
  svg.dataset.theme = document.documentElement.dataset.theme;
  svg.setAttribute("width", wide);
  svg.setAttribute("height", high);
  const frame = document.createElementNS(SVG, "foreignObject");
  frame.setAttribute("width", "100%");
  frame.setAttribute("height", "100%");
  frame.append(page);
  svg.append(frame);
  return new XMLSerializer().serializeToString(svg);
}
