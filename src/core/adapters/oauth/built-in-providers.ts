import type { ProviderId } from "../../platform/ids.ts";
import type { ProviderDefinition } from "./oauth-provider.ts";

/** One grant for all products: the scopes are what differs. https://developers.google.com/identity/protocols/oauth2/web-server */
const GOOGLE = {
  client: "google",
  issuer: "https://accounts.google.com",
  authorizeUrl: "https://accounts.google.com/o/oauth2/v2/auth",
  tokenUrl: "https://oauth2.googleapis.com/token",
  revokeUrl: "https://oauth2.googleapis.com/revoke",
  // A refresh token comes with offline access only, and a second time only after another consent.
  authorizeParams: { access_type: "offline", prompt: "consent" },
  clientAuth: "post",
  needsRefreshToken: true,
  sharesGrant: true,
} as const;

const GMAIL_MODIFY = "https://www.googleapis.com/auth/gmail.modify";
const CALENDAR_EVENTS = "https://www.googleapis.com/auth/calendar.events";
const CALENDAR_LIST = "https://www.googleapis.com/auth/calendar.calendarlist.readonly";

export const BUILT_IN_PROVIDERS: readonly ProviderDefinition[] = [
  {
    ...GOOGLE,
    id: "gmail" as ProviderId,
    name: "Gmail",
    apiUrl: "https://gmail.googleapis.com/gmail/v1",
    scopes: ["openid", "email", GMAIL_MODIFY],
    neededScopes: [GMAIL_MODIFY],
    access: ["read, sort and send your e-mail, and move it to the bin"],
  },
  {
    ...GOOGLE,
    id: "google-calendar" as ProviderId,
    name: "Google Calendar",
    apiUrl: "https://www.googleapis.com/calendar/v3",
    scopes: ["openid", "email", CALENDAR_EVENTS, CALENDAR_LIST],
    neededScopes: [CALENDAR_EVENTS],
    access: ["read and change the events in your calendars", "see which calendars you have"],
  },
  {
    id: "sautai" as ProviderId,
    name: "Sautai",
    client: "sautai",
    issuer: undefined,
    authorizeUrl: "https://sautai.com/oauth/authorize",
    tokenUrl: "https://sautai.com/oauth/token",
    revokeUrl: "https://sautai.com/oauth/revoke",
    apiUrl: undefined,
    scopes: ["read", "write"],
    neededScopes: ["read"],
    access: ["read and change your meal plans and orders"],
    authorizeParams: {},
    clientAuth: "post",
    needsRefreshToken: true,
    sharesGrant: false,
  },
];
