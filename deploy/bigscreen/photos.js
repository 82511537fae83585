// Photos of an event. They may show people: drawn for who has a key, from this installation's own store alone.
// A photo that lies elsewhere stays where it is: only that there is one, and its hash, is said.

import { $, element } from "./parts.js";

//: Longer sides are drawn smaller: nobody needs more on a screen, and a drawer keeps no camera's picture.
const SIDE = 1600;
const key = () => sessionStorage.getItem("key") ?? "";
let watching = null;

class Refused extends Error {}

/** The photos of `found` (`{ digest, note }`; a digest may be empty), and where one gives a key; nothing without photos. */
export function photos(found) {
  watching?.disconnect();
  if (!found.length) return [];
  const grid = element("div", undefined, "photos");
  const tiles = found.map(({ digest, note }, i) => {
    const tile = element("figure");
    const box = element("div", digest ? digest.slice(0, 12) : "外链", "photo");
    box.title = digest ? `SHA-256 ${digest}` : "照片在别处，本屏不去取";
    tile.append(box, element("figcaption", note));
    grid.append(tile);
    return { box, digest, name: `照片 ${i + 1}，${note}` };
  });
  const form = ask(() => look());
  const look = () => {
    form.hidden = Boolean(key());
    if (!key()) return;
    watching = new IntersectionObserver((seen, observer) => {
      for (const { isIntersecting, target } of seen) {
        if (!isIntersecting) continue;
        observer.unobserve(target);
        draw(tiles.find(({ box }) => box === target)).catch((error) => {
          target.textContent = error.message;
          if (!(error instanceof Refused)) return;
          observer.disconnect();
          sessionStorage.removeItem("key");
          form.hidden = false;
          $("p", form).textContent = error.message;
        });
      }
    }, { root: $("#drawer-body"), rootMargin: "200px" });
    for (const { box, digest } of tiles) if (digest) watching.observe(box);
  };
  if (!tiles.some(({ digest }) => digest)) return [element("h3", `照片 ${found.length} 张`), grid];
  // Once it stands in the drawer, which the watcher measures by.
  queueMicrotask(look);
  return [element("h3", `照片 ${found.length} 张`), grid, form];
}

/** Where one gives a key; it stays in this tab. */
function ask(given) {
  const form = element("form", undefined, "key");
  const field = Object.assign(element("input"), { type: "password", name: "key", autocomplete: "off", required: true });
  const label = element("label", "密钥 ");
  label.append(field);
  form.append(element("p", "照片里可能有人：凭本人密钥查看", "small"), label, element("button", "查看照片", "more"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem("key", field.value.trim());
    field.value = "";
    given();
  });
  return form;
}

async function draw({ box, digest, name }) {
  const answer = await fetch(`/orders/media/${digest}`, { headers: { "X-API-Key": key() } }).catch(() => null);
  if (!answer) throw new Error("未读到");
  if (answer.status === 401 || answer.status === 403) throw new Refused("密钥不对，或无权查看");
  if (!answer.ok) throw new Error(answer.status === 404 ? "未存于此" : "未读到");
  const bitmap = await createImageBitmap(await answer.blob()).catch(() => { throw new Error("无法显示"); });
  const share = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = Object.assign(element("canvas"), {
    width: Math.max(1, Math.round(bitmap.width * share)), height: Math.max(1, Math.round(bitmap.height * share)) });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  const button = element("button");
  button.append(canvas);
  button.title = "放大或缩小";
  button.addEventListener("click", () => box.parentElement.classList.toggle("large"));
  box.replaceChildren(button);
}
