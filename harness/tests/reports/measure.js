// Measures the page in the wrapper's frame, as a person would meet it, and leaves the findings as JSON.
onload = () => {
  const frame = document.querySelector("iframe"), page = frame.contentDocument, view = frame.contentWindow;
  const all = (selector) => [...page.querySelectorAll(selector)];
  const colour = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const linear = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  // Relative luminance and contrast as WCAG 2.2 defines them.
  const ratio = (one, other) => {
    const [high, low] = [luminance(one), luminance(other)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const over = (top, ground) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return [0, 1, 2].map((index) => top[index] * alpha + ground[index] * (1 - alpha));
  };
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    const own = colour(view.getComputedStyle(element).backgroundColor);
    return own.length > 3 && own[3] === 0 ? ground(element.parentElement) : over(own, ground(element.parentElement));
  };
  const words = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const told = (element) => `${element.tagName}.${element.getAttribute("class") || ""}: ${element.textContent.trim().slice(0, 40)}`;
  const contrasts = [];
  for (const element of all("body *")) {
    if (!words(element) || element.closest("style,title,defs") || element.closest(".skip")) continue;
    const style = view.getComputedStyle(element), drawn = element instanceof view.SVGElement;
    let behind = ground(drawn ? element.closest("svg").parentElement : element);
    if (element.classList.contains("flag-letter")) behind = colour(view.getComputedStyle(page.querySelector(".flag-disc")).fill);
    contrasts.push({ what: told(element), ratio: ratio(over(colour(drawn ? style.fill : style.color), behind), behind) });
  }
  const outside = [];
  for (const svg of all("svg[viewBox]")) {
    const box = svg.viewBox.baseVal;
    for (const text of svg.querySelectorAll("text")) {
      const at = text.getBBox();
      if (at.width && (at.x < -1 || at.y < -1 || at.x + at.width > box.width + 1 || at.y + at.height > box.height + 1)) outside.push(told(text));
    }
  }
  const overflow = all("body *").filter((element) => {
    if (element.closest(".scroll,.patterns,.skip,pre")) return false;
    const box = element.getBoundingClientRect();
    return box.width && box.right > page.documentElement.clientWidth + 1;
  });
  const ids = all("[id]").map((element) => element.id);
  const unnamed = [
    ...all("table").filter((table) => !table.caption || !table.caption.textContent.trim()),
    ...all("th").filter((cell) => !cell.scope),
    ...all("svg[role=img]").filter((svg) => (svg.getAttribute("aria-label") || "").length < 20),
    ...all("[tabindex='0'],section,nav").filter((one) => !one.getAttribute("aria-label") && !one.getAttribute("aria-labelledby")),
  ];
  document.getElementById("measured").textContent = JSON.stringify({
    sections: all("main > section").map((section) => ({ id: section.id, height: section.getBoundingClientRect().height })),
    overflow: overflow.map(told),
    outside,
    unnamed: unnamed.map(told),
    duplicates: ids.filter((id, index) => ids.indexOf(id) !== index),
    requests: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    scripts: all("script").map(told),
    contrasts: contrasts.filter((one) => !(one.ratio >= 4.5)),
    texts: contrasts.length,
    dark: luminance(ground(page.body)) < 0.2,
    focusable: all("a[href],summary,[tabindex='0']").length,
  });
};
