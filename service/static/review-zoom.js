// Zooms and moves the photo: wheel, pinch, drag, a key, arrow keys.

const STEP = 2.5;
const MOST = 8;
const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

export class Zoom {
  constructor(stage, image, changed) {
    Object.assign(this, { stage, image, changed, scale: 1, x: 0, y: 0, fingers: new Map() });
    stage.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.by(Math.exp(-event.deltaY / 400), event.clientX, event.clientY);
    }, { passive: false });
    stage.addEventListener("dblclick", (event) => this.toggle(event.clientX, event.clientY));
    stage.addEventListener("pointerdown", (event) => this._down(event));
    stage.addEventListener("pointermove", (event) => this._move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, (event) => this.fingers.delete(event.pointerId));
    }
  }

  get zoomed() { return this.scale > 1; }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this._show();
  }

  toggle(clientX, clientY) {
    if (this.zoomed) this.reset();
    else this.by(STEP, clientX, clientY);
  }

  // Around a point of the screen, by default the middle of the stage.
  by(factor, clientX, clientY) {
    const box = this.stage.getBoundingClientRect();
    const px = (clientX ?? box.left + box.width / 2) - box.left;
    const py = (clientY ?? box.top + box.height / 2) - box.top;
    const scale = Math.min(MOST, Math.max(1, this.scale * factor));
    this.x = px - ((px - this.x) * scale) / this.scale;
    this.y = py - ((py - this.y) * scale) / this.scale;
    this.scale = scale;
    this._show();
  }

  arrow(key) {
    if (!this.zoomed || !ARROWS[key]) return false;
    this.x += 80 * ARROWS[key][0];
    this.y += 80 * ARROWS[key][1];
    this._show();
    return true;
  }

  _down(event) {
    this.fingers.set(event.pointerId, event);
    if (this.zoomed || this.fingers.size > 1) this.stage.setPointerCapture(event.pointerId);
  }

  _move(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) return;
    this.fingers.set(event.pointerId, event);
    if (this.fingers.size === 1) {
      if (!this.zoomed) return;
      this.x += event.clientX - before.clientX;
      this.y += event.clientY - before.clientY;
      this._show();
    } else if (this.fingers.size === 2) {
      const other = [...this.fingers.values()].find((one) => one.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const [x, y] = [(event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2];
      this.by(apart(event) / Math.max(1, apart(before)), x, y);
    }
  }

  _show() {
    const { width, height } = this.stage.getBoundingClientRect();
    this.x = Math.min(0, Math.max(width * (1 - this.scale), this.x));
    this.y = Math.min(0, Math.max(height * (1 - this.scale), this.y));
    this.image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.stage.classList.toggle("zoomed", this.zoomed);
    this.changed(this.zoomed);
  }
}
