// A sign for each channel: told apart by its shape, so that nobody needs to see its colour. 24 × 24, lines only.

import { shape } from "./parts.js";

const ring = (x, y, r) => `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`;
const SIGNS = {
  hotline12345: "M5 4h4l2 5-2.500 1.500a11 11 0 0 0 5 5L15 13l5 2v4a1 1 0 0 1-1 1A15 15 0 0 1 4 5a1 1 0 0 1 1-1z",
  photo_app: `M3 8h4l2-3h6l2 3h4v11H3z${ring(12, 13, 3.5)}`,
  police110: "M12 3l8 3v6c0 4.500-3.400 7.800-8 9-4.600-1.200-8-4.500-8-9V6zM8.500 12l2.500 2.500 4.500-4.500",
  grid_patrol: `M12 21.500s7-6.500 7-11.500a7 7 0 0 0-14 0c0 5 7 11.500 7 11.500z${ring(12, 10, 2.5)}`,
  online_window: "M3 4h18v16H3zM3 9h18M6 6.500h.01M9 6.500h.01M7 13h10M7 16.500h6",
  city_management: "M2 21h20M4 21V10l6-3v14M10 21V3l10 4v14M14 10h2M14 14h2M14 18h2",
  mailbox: "M3 5h18v14H3zM3 6l9 7 9-7",
  iot: `${ring(12, 12, 1.5)}M8 16a5.700 5.700 0 0 1 0-8M16 8a5.700 5.700 0 0 1 0 8M5 19a10 10 0 0 1 0-14M19 5a10 10 0 0 1 0 14`,
  video_ai: "M2 7h13v10H2zM15 11l7-4v10l-7-4",
  uav: `M9.500 10h5v4h-5zM9.500 10L6.500 7M14.500 10l3-3M9.500 14l-3 3M14.500 14l3 3${[[5, 5.5], [19, 5.5], [5, 18.5], [19, 18.5]].map(([x, y]) => ring(x, y, 2.5)).join("")}`,
};
//: Of a channel that is none of the ten.
const OTHER = `${ring(12, 12, 9)}M3 12h18M12 3c-5 5-5 13 0 18M12 3c5 5 5 13 0 18`;

/** The sign of a channel; its name stands beside it. */
export function channelIcon(name) {
  const svg = shape("svg", { viewBox: "0 0 24 24", class: "sign", "aria-hidden": "true" });
  svg.append(shape("path", { d: SIGNS[name] ?? OTHER }));
  return svg;
}
