/** Everything the service itself says in a chat: plain text, no markup (F22). One place, ready for more languages. */
export const TEXTS = {
  onboarding: (signupUrl: string | undefined) =>
    `Hello! This chat is not connected to an assistant yet.\n\n${
      signupUrl === undefined
        ? "If you have a subscription, open the personal link you were given."
        : `Sign up here: ${signupUrl}`
    }`,
  privateOnly: () => "I only work in private chats. Please write to me directly.",
  linked: (name: string) => `This chat is now connected to your assistant, ${name}. Say hello!`,
  alreadyLinked: () => "This chat is already connected to your assistant.",
  linkInvalid: () => "This link has been used or is too old. Please ask for a new one.",
  chatTaken: () => "This chat belongs to another assistant. Disconnect it there first, then open the link again.",
  unpaid: (checkoutUrl: string | undefined) =>
    `Your assistant is waiting for your subscription to begin.${checkoutUrl === undefined ? "" : `\n\nSubscribe here: ${checkoutUrl}`}`,
  preparing: () =>
    "Your assistant is being set up. That takes a few minutes; your message is kept and will be answered then.",
  trialEnds: (at: Date, checkoutUrl: string | undefined) =>
    `Your trial ends on ${at.toISOString().slice(0, 16).replace("T", " ")} UTC. Your assistant pauses then; nothing is lost.${
      checkoutUrl === undefined ? "" : `\n\nTo go on without a break, subscribe here: ${checkoutUrl}`
    }`,
  suspended: (portalUrl: string | undefined) =>
    `Your assistant is paused.${portalUrl === undefined ? " Please look at your subscription." : `\n\nSee your subscription: ${portalUrl}`}`,
  suspendedByOperator: () => "Your assistant is paused. Please contact support.",
  deleted: (checkoutUrl: string | undefined) =>
    `Your assistant was removed.${checkoutUrl === undefined ? "" : `\n\nTo have it back, subscribe again: ${checkoutUrl}`}`,
  usedUp: () =>
    "Your assistant has used up what it may use this month. It goes on when the next month begins; nothing is lost.",
  runningOut: (percent: number) =>
    `Your assistant has used ${percent} % of what it may use this month. Once all of it is used, it pauses until the next month begins.`,
  modelsStopped: () => "Your assistant can't answer at the moment. Please try again later.",
  tooFast: () =>
    "That was more than I can take in at once: what you wrote last was not passed on. Please wait a minute.",
  waking: () =>
    "Your assistant is starting. That can take a minute or two; your message is kept and will be answered then.",
  connected: (provider: string, account: string | null, access: { can: readonly string[]; isPart: boolean }) =>
    `${provider} is connected${account === null ? "" : `: ${account}`}.${
      access.isPart
        ? " Not everything that your assistant asked for was allowed, so some of it won't work."
        : access.can.length === 0
          ? ""
          : ` Your assistant can now ${new Intl.ListFormat("en").format(access.can)}.`
    }\n\nIf that wasn't you, please contact support.`,
  expired: (provider: string, account: string | null, connectUrl: string | undefined) =>
    `${provider} has to be connected again: your assistant's access${account === null ? "" : ` to ${account}`} has ended.\n\n${
      connectUrl === undefined
        ? "Please ask for a link to connect it."
        : `Connect it here: ${connectUrl}\n\nThe link holds for seven days.`
    }`,
  undelivered: (sentAt: Date) =>
    `I'm sorry: your message of ${sentAt.toISOString().slice(0, 16).replace("T", " ")} UTC could not reach your assistant. Please send it again.`,
} as const;
