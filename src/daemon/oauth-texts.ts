import type { ProviderDefinition } from "../core/adapters/oauth/oauth-provider.ts";
import type {
  Connected,
  ConnectRefusal,
  ConsentRefusal,
  Offer,
  StateRefusal,
} from "../core/integrations/integrations.ts";
import { assertNever } from "../core/platform/errors.ts";
import { html, type Html } from "./html.ts";
import { type Page, renderPage } from "./oauth-page.ts";

/** What is wrong with a request itself, whatever it is about. */
export type RequestRefusal = { kind: "cross-site" } | { kind: "malformed" } | { kind: "failed"; requestId: string };

type Words = { status: number; title: string; body: readonly Html[] };

/** Whose assistant will get which access; the form's button confirms. */
export function offerPage({ provider, tenantName, replaces }: Offer, token: string): Page {
  const whose = html`<strong>${tenantName}</strong>`;
  const body = [
    html`<p>The assistant of ${whose} will be able to do this with your ${provider.name} account:</p>`,
    html`<ul>
      ${provider.access.map((item) => html`<li>${item}</li>`)}
    </ul>`,
    ...(replaces === undefined ? [] : [replacedNote(provider, replaces)]),
    html`<form method="post" action="start">
      <input type="hidden" name="link" value="${token}" /><button>Continue to ${provider.name}</button>
    </form>`,
    html`<p class="soft">
      Next, you choose an account and agree there. The assistant never sees your password, and its access can be ended
      at any time.
    </p>`,
    html`<p class="soft">
      If that is not your own assistant, close this page: whoever sent you the link would get the access.
    </p>`,
  ];
  return renderPage({ status: 200, title: `Connect ${provider.name}`, tone: "ask", body });
}

function replacedNote(provider: ProviderDefinition, { accountEmail }: NonNullable<Offer["replaces"]>): Html {
  const account = accountEmail === null ? html`an account` : html`<strong>${accountEmail}</strong>`;
  return html`<p class="note">
    At present ${account} is connected for ${provider.name}. It will be replaced by the account that you choose.
  </p>`;
}

export function connectedPage({ provider, tenantName, accountEmail, isPart }: Connected): Page {
  const account = accountEmail === null ? html`Your account` : html`<strong>${accountEmail}</strong>`;
  const whose = html`<strong>${tenantName}</strong>`;
  // Which of its words go with which scopes is not known.
  const can = isPart
    ? [
        html`<p>${account} is connected to the assistant of ${whose}.</p>`,
        html`<p class="note">
          Not everything that it asked for was allowed, so some of it won&#39;t work. To allow the rest, ask for a new
          link.
        </p>`,
      ]
    : [
        html`<p>${account} is connected to the assistant of ${whose}, which can now do this:</p>`,
        html`<ul>
          ${provider.access.map((item) => html`<li>${item}</li>`)}
        </ul>`,
      ];
  const body = [...can, html`<p>You can close this page.</p>`];
  return renderPage({ status: 200, title: `${provider.name} is connected`, tone: "good", body });
}

export function refusalPage(refusal: ConnectRefusal | RequestRefusal): Page {
  return renderPage({ ...wordsFor(refusal), tone: "bad" });
}

const NOTHING = "Nothing was connected.";
const ASK_AGAIN = html`<p>Ask for a new link where you got this one.</p>`;
const BEGIN_AGAIN = html`<p>Open the link that you got once more and begin again.</p>`;

function words(status: number, title: string, ...body: readonly (string | Html)[]): Words {
  return { status, title, body: body.map((item) => (typeof item === "string" ? html`<p>${item}</p>` : item)) };
}

function wordsFor(refusal: ConnectRefusal | RequestRefusal): Words {
  switch (refusal.kind) {
    case "unknown-provider":
      return words(404, "There is nothing here", "The address is not complete, or not one of ours.", ASK_AGAIN);
    case "not-configured":
      return words(
        503,
        `${refusal.provider.name} can't be connected yet`,
        `This service has not been set up for ${refusal.provider.name}. ${NOTHING}`,
        "Whoever runs it has to do that first; please tell them.",
      );
    case "link-unknown":
      return words(404, "This link does not work", "It is not complete, or it was never given out.", ASK_AGAIN);
    case "link-expired":
      return words(410, "This link is too old", `Links hold for a while only. ${NOTHING}`, ASK_AGAIN);
    case "link-used":
      return words(
        410,
        "This link was used already",
        "An account was connected by it. If that was you, there is nothing left to do.",
        "If not, or to connect another account, ask for a new link where you got this one.",
      );
    case "link-replaced":
      return words(410, "There is a newer link", `This one was replaced by another. ${NOTHING}`, "Use the newest.");
    case "link-ended":
      return words(
        410,
        "This link no longer holds",
        `The account was disconnected after this link was given out. ${NOTHING}`,
        ASK_AGAIN,
      );
    case "tenant-gone":
      return words(
        410,
        "This assistant is switched off",
        `Nothing can be connected to it as long as that is so. ${NOTHING}`,
        "Once it is back, ask for a new link.",
      );
    case "crowded":
      return words(
        429,
        "That was begun too often",
        `This link was tried many times within a few minutes. ${NOTHING}`,
        "Wait ten minutes, then open it once more.",
      );
    case "cross-site":
      return words(
        403,
        "That did not come from our page",
        `Another site tried to connect an account for you, which it must not. ${NOTHING}`,
        "If it was you who wanted it, open the link that you got and press the button there.",
      );
    case "malformed":
      return words(400, "That could not be understood", `The request is not complete. ${NOTHING}`, BEGIN_AGAIN);
    case "failed":
      return words(
        503,
        "Something went wrong here",
        "It was not your doing, and may pass. Wait a moment, then open the link that you got once more.",
        `If that does not help, name this number when you ask for help: ${refusal.requestId}`,
      );
    default:
      return wordsAfterConsent(refusal);
  }
}

/** What may come of the way back from the provider. */
function wordsAfterConsent(refusal: StateRefusal | ConsentRefusal): Words {
  switch (refusal.kind) {
    case "state-unknown":
      return words(400, "This does not belong to anything begun here", NOTHING, BEGIN_AGAIN);
    case "state-expired":
      return words(410, "That took too long", `There are ten minutes to agree. ${NOTHING}`, BEGIN_AGAIN);
    case "state-used":
      return words(
        410,
        "This page was opened before",
        "It counts only once. If it said that your account is connected, all is well and there is nothing left to do.",
        "If not, open the link that you got once more and begin again.",
      );
    case "other-provider":
    case "foreign":
      return words(
        400,
        "That answer does not fit",
        `What came back is not the answer to what was asked here, so it was not taken. ${NOTHING}`,
        BEGIN_AGAIN,
      );
    case "other-browser":
      return words(
        403,
        "This was begun in another browser",
        `An account can be connected only by whoever began it, in the same browser and with cookies allowed. ${NOTHING}`,
        "If somebody sent you the address of the sign-in page, close this one: the access would have been theirs.",
        "If it was you who began, open the link that you got once more, and stay in one browser.",
      );
    case "denied":
      return words(
        403,
        "Access was not given",
        `${refusal.provider.name} says that you declined, or that you may not agree to it. ${NOTHING}`,
        "If that was not what you wanted, open the link that you got once more.",
      );
    case "too-late":
      return words(
        410,
        "That took too long",
        `${refusal.provider.name} no longer takes the answer that it gave. ${NOTHING}`,
        BEGIN_AGAIN,
      );
    case "client-refused":
      return words(
        503,
        `${refusal.provider.name} can't be connected at present`,
        `${refusal.provider.name} does not accept this service as it is set up. ${NOTHING}`,
        "That is not your doing; whoever runs this service has to mend it. Please tell them.",
      );
    case "unavailable":
      return words(
        502,
        `${refusal.provider.name} does not answer`,
        `It could not be asked whether all is well. ${NOTHING}`,
        "Wait a few minutes, then open the link that you got once more.",
      );
    case "scopes-missing":
      return words(
        403,
        "Some access is missing",
        `The assistant needs all of what it asked for, to be able to do this with ${refusal.provider.name}:`,
        html`<ul>
          ${refusal.provider.access.map((item) => html`<li>${item}</li>`)}
        </ul>`,
        `${NOTHING} Open the link that you got once more, and tick everything when ${refusal.provider.name} asks.`,
        html`<p class="soft">What was missing: ${refusal.missing.map(shortScope).join(", ")}</p>`,
      );
    case "not-lasting":
      return words(
        502,
        "The access would not have lasted",
        `${refusal.provider.name} gave access for a short while only, which is of no use to an assistant. ${NOTHING}`,
        "Remove this service from your account's list of connected apps there, then open the link that you got once more.",
      );
    case "overtaken":
      return words(
        409,
        "Something else changed it meanwhile",
        `Another page, or whoever runs this service, changed the same connection at the same moment. ${NOTHING}`,
        BEGIN_AGAIN,
      );
    default:
      return assertNever(refusal);
  }
}

/** Google's scopes are addresses, of which the end tells most. */
function shortScope(scope: string): string {
  return scope.replace(/^https:\/\/.*\//, "");
}
