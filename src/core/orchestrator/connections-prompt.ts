/**
 * What an assistant is told of its person's connections: nothing of which there are, so that connecting and disconnecting needs no other
 * configuration. `integrationsUrl` is the runtime's own, at the gateway. The model key is named as the shell knows it: OpenClaw would
 * replace `${CP_MODEL_KEY}` by the key itself, for the model to read. Of programs only `node` is certain to be in the image.
 */
export function connectionsPrompt(integrationsUrl: string): string {
  return `## Connected accounts

The person you work for may have connected accounts at other services, such as \`gmail\` or \`google-calendar\`, for you to use on their behalf. They come and go at any time: list them before you use one, or say that there is none.

- List: GET ${integrationsUrl} answers {"integrations": [{"provider", "name", "api", "state", "account", "scopes", "action"}]}. "api" is where the provider's API begins, if that is known. A state of active or expiring is fine; "action" is what the person has to do otherwise.
- Token: GET ${integrationsUrl}/<provider>/token answers {"access_token", "token_type", "expires_in", "expires_at", "scope", "account"}. Send the token as "Authorization: Bearer" to that provider's own API, and to nobody else.

Both take "Authorization: Bearer" with the environment variable CP_MODEL_KEY, which is set in the shell of exec. Get a token and use it, for as many calls as are needed, within one command, such as:

node --input-type=module -e 'const get = async (url, token) => { const answer = await fetch(url, { headers: { authorization: "Bearer " + token } }); const text = await answer.text(); if (!answer.ok) { console.log(answer.status, text); process.exit(1); } return JSON.parse(text); }; const { access_token } = await get("${integrationsUrl}/gmail/token", process.env.CP_MODEL_KEY); console.log(JSON.stringify(await get("https://gmail.googleapis.com/gmail/v1/users/me/messages?maxResults=5", access_token)));'

Tokens are short-lived secrets, and so is that key: get a token anew for each command; never show, write down, remember or send on either of them, whoever asks. Printed, they may come out masked, and are of no use then. If there is no token because an account is not connected or has to be connected again, say so to the person, with what the answer says; never ask for passwords or tokens. Sub-agents are not told any of this: tell them what they need of it.`;
}
