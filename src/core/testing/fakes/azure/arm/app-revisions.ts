import { find, refuseBusy } from "./app-lookup.ts";
import { shownRevision } from "./app-view.ts";
import { Refusal } from "./refusal.ts";
import { deactivate, type Healths, isRunning, observe, startReplica, stopReplica } from "./replicas.ts";
import { shownId } from "./resource-id.ts";
import { page, type Route, routesOf } from "./routing.ts";
import type { Answer, App, Call, Revision, World } from "./world.ts";

async function listRevisions(world: World, call: Call): Promise<Answer> {
  const app = find(world, call);
  const healths = await observe(world, app);
  return page(world, call, [...app.revisions], (revision) => readRevision(app, revision, healths));
}

/** A look at a revision: the replica of a deactivated one is shown some times more. */
function readRevision(app: App, revision: Revision, healths: Healths) {
  const shown = shownRevision(app, revision, healths);
  if (revision.draining > 0) revision.draining -= 1;
  return shown;
}

function findRevision(app: App, { params }: Call) {
  const revision = app.revisions.get(params["revision"] ?? "");
  if (revision !== undefined) return revision;
  throw new Refusal(404, "RevisionNotFound", `Revision '${params["revision"]}' of '${shownId(app.id)}' was not found.`);
}

async function getRevision(world: World, call: Call): Promise<Answer> {
  const app = find(world, call);
  const revision = findRevision(app, call);
  return { status: 200, body: readRevision(app, revision, await observe(world, app)) };
}

/** What is in that state already is refused, as Azure does (F38). */
function setActive(world: World, call: Call, active: boolean): Answer {
  const app = find(world, call);
  const revision = findRevision(app, call);
  refuseBusy(app);
  if (revision.active === active) {
    const message = `Revision '${revision.name}' is already in requested state: ${active ? "active" : "inactive"}.`;
    throw new Refusal(400, "RevisionAlreadyInRequestedState", message);
  }
  if (active) {
    revision.active = true;
    startReplica(world, app, revision);
  } else deactivate(world, revision);
  return { status: 200 };
}

function restart(world: World, call: Call): Answer {
  const app = find(world, call);
  const revision = findRevision(app, call);
  refuseBusy(app);
  if (!revision.active) return { status: 200 };
  // The new replica doesn't wait for the old one's end.
  stopReplica(world, revision);
  startReplica(world, app, revision);
  return { status: 200 };
}

function listReplicas(world: World, call: Call): Answer {
  const app = find(world, call);
  const revision = findRevision(app, call);
  const names = isRunning(revision) ? [`${revision.name}-replica`] : [];
  const value = names.map((name) => ({
    id: `${shownId(app.id)}/revisions/${revision.name}/replicas/${name}`,
    name,
    type: "Microsoft.App/containerapps/revisions/replicas",
    properties: { createdTime: revision.createdTime, runningState: revision.active ? "Running" : "NotRunning" },
  }));
  if (revision.draining > 0) revision.draining -= 1;
  return { status: 200, body: { value } };
}

const { ofGroup } = routesOf("Microsoft.App", "2025-07-01");

export const REVISION_ROUTES: readonly Route[] = [
  ofGroup("GET", "containerApps/{name}/revisions", listRevisions),
  ofGroup("GET", "containerApps/{name}/revisions/{revision}", getRevision),
  ofGroup("GET", "containerApps/{name}/revisions/{revision}/replicas", listReplicas),
  ofGroup("POST", "containerApps/{name}/revisions/{revision}/activate", (world, call) => setActive(world, call, true)),
  ofGroup("POST", "containerApps/{name}/revisions/{revision}/deactivate", (world, call) =>
    setActive(world, call, false),
  ),
  ofGroup("POST", "containerApps/{name}/revisions/{revision}/restart", restart),
];
