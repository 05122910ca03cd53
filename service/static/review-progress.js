// How far one has come, how far people agree, and what the next undo would take back.

const find = (id) => document.getElementById(id);

// `waiting` words are not with the service yet; `gone` photos were passed over; `last` was said last.
export function showFigures(progress, waiting, gone, last) {
  const figures = { left: Math.max(0, progress.left - waiting), done: progress.done + waiting, today: progress.today + waiting };
  const parts = Object.entries(figures).flatMap(([word, figure], i) => {
    const bold = document.createElement("b");
    bold.textContent = figure;
    return [i ? " · " : "", bold, ` ${word}`];
  });
  find("progress").replaceChildren(...parts);
  find("agreement").textContent = agreement(progress) + (gone ? ` ${gone} could not be fetched any more and were passed over.` : "");
  find("undo").setAttribute("aria-disabled", String(!last));
  find("undoes").textContent = last ? `: ${last}` : ""; // so that a slip is seen
  find("undo-last").hidden = !last;
  find("undo-last").textContent = last ? `Undo: ${last}` : "";
}

function agreement({ double, agreed, kappa, unsettled, disputed, photos, reviewed, no_refuse: foreign }) {
  const kappaTold = kappa === null ? "" : `, Cohen’s kappa ${kappa.toFixed(2)}`;
  return (
    `${photos} photos kept, ${reviewed} settled${foreign ? ` (${foreign} as no refuse)` : ""}, ${unsettled} on which people do not agree, ` +
    `${disputed} disputed by clients’ feedback. ` +
    (double ? `Two people agree on ${agreed} of ${double}${kappaTold}.` : "Nothing has been seen by two people yet.")
  );
}
