"""Contrast of every text that a page shows: WCAG 2's formula on what the browser computed."""

from __future__ import annotations

from playwright.sync_api import Page

AA = 4.5

_SCRIPT = """
() => {
    const parse = (c) => c.match(/[\\d.]+/g).map(Number);
    const over = (front, back) => {
        const alpha = front[3] ?? 1;
        return [0, 1, 2].map((i) => front[i] * alpha + back[i] * (1 - alpha));
    };
    const behind = (e) => {
        const layers = [];
        for (; e; e = e.parentElement) {
            const colour = parse(getComputedStyle(e).backgroundColor);
            layers.push(colour);
            if ((colour[3] ?? 1) === 1) break;
        }
        return layers.reduceRight((back, front) => over(front, back), [255, 255, 255]);
    };
    const light = (colour) => {
        const [r, g, b] = colour.map((v) => v / 255)
            .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let worst = [21, "no text"];
    for (const e of document.querySelectorAll("body *")) {
        const field = e.matches("input") && (e.value || e.placeholder);
        const own = field || [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !e.checkVisibility()) continue;
        const back = behind(e);
        const [a, b] = [light(over(parse(getComputedStyle(e).color), back)), light(back)];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const name = `${e.tagName}#${e.id}.${e.className} ${e.textContent}`;
        if (ratio < worst[0]) worst = [ratio, name];
    }
    return worst;
}
"""


def lowest_contrast(page: Page) -> tuple[float, str]:
    """The ratio of the text that is worst to read, and which it is."""
    ratio, which = page.evaluate(_SCRIPT)
    return float(ratio), str(which)
