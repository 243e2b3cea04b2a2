// Shows a shape's <title> at the pointer, at once. Without this script the browser shows it, later.
"use strict";
const hover = document.getElementById("hover");
for (const title of document.querySelectorAll("svg.chart title")) {
  const shape = title.parentNode;
  shape.dataset.told = title.textContent;
  shape.setAttribute("aria-label", title.textContent);
  title.remove();
}
document.addEventListener("pointermove", (event) => {
  const told = event.target.dataset && event.target.dataset.told;
  hover.classList.toggle("on", Boolean(told));
  if (!told) return;
  hover.textContent = told;
  const left = Math.min(event.clientX + 12, innerWidth - hover.offsetWidth - 8);
  const top = event.clientY + 18 + hover.offsetHeight > innerHeight
    ? event.clientY - hover.offsetHeight - 8 : event.clientY + 18;
  hover.style.transform = `translate(${Math.max(left, 8)}px, ${top}px)`;
});
