// The console works without this. It follows Airflow's theme, opens Airflow's pages from inside its frame, and starts restores and backfills.
"use strict";
(function () {
  const framed = window.parent !== window;
  let above = null;
  try { above = framed ? window.parent.document : null; } catch { above = null; }

  function follow() {
    const name = above ? above.documentElement.className : "";
    if (/\bdark\b/.test(name)) document.documentElement.dataset.theme = "dark";
    else if (/\blight\b/.test(name)) document.documentElement.dataset.theme = "light";
  }
  follow();
  if (above) new MutationObserver(follow).observe(above.documentElement, { attributes: true, attributeFilter: ["class"] });

  function open(address) {
    if (!above) { window.location.assign(address); return; }
    const link = above.createElement("a");
    link.href = address;
    above.body.append(link);
    link.click();
    link.remove();
  }

  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element ? event.target.closest("a[data-airflow]") : null;
    if (link && above) { event.preventDefault(); open(link.href); }
  });

  function lines(text) { return text.split("\n").map((line) => line.trim()).filter(Boolean); }

  async function restore(form, verdict) {
    const said = new FormData(form);
    const conf = { policy: said.get("policy"), point: said.get("point"), dry_run: said.get("dry_run") !== null };
    for (const [name, found] of [["namespaces", said.getAll("namespaces")], ["objects", lines(said.get("objects"))], ["volumes", lines(said.get("volumes"))]]) {
      if (found.length) conf[name] = found;
    }
    const dag = encodeURIComponent(form.dataset.dag);
    const answer = await fetch(`/api/v2/dags/${dag}/dagRuns`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ logical_date: null, conf }),
    });
    const told = await answer.json();
    if (!answer.ok) {
      verdict.textContent = `Airflow refused: ${typeof told.detail === "string" ? told.detail : JSON.stringify(told.detail)}`;
      return;
    }
    verdict.textContent = "Started. ";
    const link = document.createElement("a");
    link.href = `/dags/${dag}/runs/${encodeURIComponent(told.dag_run_id)}`;
    link.dataset.airflow = "";
    link.textContent = "Follow the run";
    verdict.append(link);
  }

  async function backfill(form, verdict) {
    const said = new FormData(form);
    const answer = await fetch("/api/v2/backfills", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        dag_id: form.dataset.dag,
        from_date: said.get("from"),
        to_date: said.get("to"),
        run_backwards: false,
        dag_run_conf: {},
        reprocess_behavior: "failed",
        max_active_runs: 1,
        run_on_latest_version: true,
      }),
    });
    const told = await answer.json();
    if (!answer.ok) {
      verdict.textContent = `Airflow refused: ${typeof told.detail === "string" ? told.detail : JSON.stringify(told.detail)}`;
      return;
    }
    verdict.textContent = `Backfill ${told.id} has begun. `;
    const link = document.createElement("a");
    link.href = `/dags/${encodeURIComponent(form.dataset.dag)}/backfills`;
    link.dataset.airflow = "";
    link.textContent = "Follow it";
    verdict.append(link);
  }

  const deeds = { restore, backfill };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!Object.hasOwn(deeds, form.id)) return;
    event.preventDefault();
    const button = form.querySelector("button");
    const verdict = document.getElementById("verdict");
    button.disabled = true;
    verdict.textContent = "Starting…";
    deeds[form.id](form, verdict).catch((error) => { verdict.textContent = `Airflow did not answer: ${error}`; }).finally(() => { button.disabled = false; });
  });
})();
