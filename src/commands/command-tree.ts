import { Command } from "commander";

/** A command whose options and action are loaded only when it is the one that was typed. */
type Leaf = { description: string; load: () => Promise<{ command: () => Command }> };
type Group = { description: string; commands: Record<string, Leaf | Group> };

export const COMMANDS: Group = {
  description: "Control plane of a hosted OpenClaw service",
  commands: {
    quickstart: {
      description: "try the whole path on this machine, without any account",
      load: () => import("./quickstart.ts"),
    },
    daemon: {
      description: "serve webhooks, route messages, do the background work",
      load: () => import("./daemon.ts"),
    },
    migrate: { description: "apply or check the database migrations", load: () => import("./migrate.ts") },
    check: {
      description: "look whether all that it takes is there, and say what to do",
      load: () => import("./check.ts"),
    },
    tenant: {
      description: "create and look after tenants",
      commands: {
        create: { description: "create a tenant", load: () => import("./tenant/create.ts") },
        list: { description: "list tenants", load: () => import("./tenant/list.ts") },
        show: { description: "show one tenant", load: () => import("./tenant/show.ts") },
        update: { description: "change a tenant", load: () => import("./tenant/update.ts") },
        link: { description: "make a link that binds a Telegram chat", load: () => import("./tenant/link.ts") },
        unlink: { description: "free the tenant's Telegram chat", load: () => import("./tenant/unlink.ts") },
        provision: { description: "bring the tenant's runtime up", load: () => import("./tenant/provision.ts") },
        suspend: { description: "put the tenant to sleep until resumed", load: () => import("./tenant/suspend.ts") },
        resume: { description: "lift a suspension", load: () => import("./tenant/resume.ts") },
        sleep: { description: "stop the runtime until the next message", load: () => import("./tenant/sleep.ts") },
        wake: { description: "start a sleeping runtime", load: () => import("./tenant/wake.ts") },
        deprovision: {
          description: "remove the tenant's runtime and keys",
          load: () => import("./tenant/deprovision.ts"),
        },
        "rotate-keys": {
          description: "give runtimes new keys, and retire the old ones",
          load: () => import("./tenant/rotate-keys.ts"),
        },
        restore: { description: "bring a deleted tenant back", load: () => import("./tenant/restore.ts") },
        export: { description: "back up what the tenant's runtime keeps", load: () => import("./tenant/export.ts") },
        import: { description: "put a backup back, or into another tenant", load: () => import("./tenant/import.ts") },
        purge: { description: "remove a deleted tenant's data for good", load: () => import("./tenant/purge.ts") },
        usage: { description: "what a tenant has used this month", load: () => import("./tenant/usage.ts") },
        events: { description: "what happened to a tenant, and why", load: () => import("./tenant/events.ts") },
        logs: { description: "the runtime's log", load: () => import("./tenant/logs.ts") },
      },
    },
    billing: {
      description: "what was paid, what models cost, and what Stripe said",
      commands: {
        checkout: {
          description: "a page on which a tenant's subscription is paid for",
          load: () => import("./billing/checkout.ts"),
        },
        portal: {
          description: "a page on which a subscription and its cards are looked after",
          load: () => import("./billing/portal.ts"),
        },
        show: { description: "what a tenant pays, and how that stands", load: () => import("./billing/show.ts") },
        sync: { description: "compare with Stripe, and repair what differs", load: () => import("./billing/sync.ts") },
        budget: {
          description: "what tenants may spend on models",
          commands: {
            show: { description: "limits, and what is used of them", load: () => import("./billing/budget/show.ts") },
            set: { description: "set a tenant's budget of the month", load: () => import("./billing/budget/set.ts") },
            cap: {
              description: "limit what all tenants spend together, or stop all model calls",
              load: () => import("./billing/budget/cap.ts"),
            },
            uncap: {
              description: "remove that limit, or let model calls through again",
              load: () => import("./billing/budget/uncap.ts"),
            },
          },
        },
        prices: { description: "what models cost", load: () => import("./billing/prices.ts") },
        report: {
          description: "a month's revenue, model cost and margin",
          load: () => import("./billing/report.ts"),
        },
        unblock: {
          description: "let a tenant run again after a refund or a lost dispute",
          load: () => import("./billing/unblock.ts"),
        },
        events: {
          description: "what Stripe sent, and what became of it",
          commands: {
            list: { description: "list them", load: () => import("./billing/events/list.ts") },
            show: { description: "show one", load: () => import("./billing/events/show.ts") },
            replay: { description: "apply them again", load: () => import("./billing/events/replay.ts") },
          },
        },
      },
    },
    integration: {
      description: "accounts that subscribers have connected",
      commands: {
        providers: {
          description: "what can be connected, and what that takes",
          load: () => import("./integration/providers.ts"),
        },
        connect: {
          description: "make a link by which a subscriber connects an account",
          load: () => import("./integration/connect.ts"),
        },
        list: {
          description: "who is connected to what, and how that stands",
          load: () => import("./integration/list.ts"),
        },
        show: {
          description: "a tenant's connections and what was done about them",
          load: () => import("./integration/show.ts"),
        },
        refresh: { description: "renew the access of connections now", load: () => import("./integration/refresh.ts") },
        disconnect: {
          description: "end connections, and revoke what was granted",
          load: () => import("./integration/disconnect.ts"),
        },
      },
    },
    route: {
      description: "see where messages go, and what waits or was given up",
      commands: {
        show: { description: "where a chat leads, and how it fares", load: () => import("./route/show.ts") },
        lanes: { description: "chats whose updates wait", load: () => import("./route/lanes.ts") },
        simulate: {
          description: "what would happen to an update, without doing it",
          load: () => import("./route/simulate.ts"),
        },
        "dead-letters": {
          description: "updates that were given up",
          commands: {
            list: { description: "list them", load: () => import("./route/dead-letters/list.ts") },
            show: { description: "show one", load: () => import("./route/dead-letters/show.ts") },
            replay: { description: "deliver them after all", load: () => import("./route/dead-letters/replay.ts") },
            drop: { description: "forget them for good", load: () => import("./route/dead-letters/drop.ts") },
          },
        },
      },
    },
    telegram: {
      description: "what Telegram knows of the bot",
      commands: {
        webhook: {
          description: "where Telegram sends the bot's updates",
          commands: {
            set: { description: "have them sent here", load: () => import("./telegram/webhook/set.ts") },
            info: { description: "show what is in force", load: () => import("./telegram/webhook/info.ts") },
            delete: { description: "have them sent nowhere", load: () => import("./telegram/webhook/delete.ts") },
          },
        },
      },
    },
    fleet: {
      description: "see all runtimes at once, and mend what differs",
      commands: {
        status: { description: "the fleet at a glance", load: () => import("./fleet/status.ts") },
        health: {
          description: "which runtimes are healthy, and why others are not",
          load: () => import("./fleet/health.ts"),
        },
        drift: { description: "what differs from what should be", load: () => import("./fleet/drift.ts") },
        reconcile: { description: "have what differs mended now", load: () => import("./fleet/reconcile.ts") },
        reap: { description: "remove runtimes that have no tenant", load: () => import("./fleet/reap.ts") },
        settings: {
          description: "image and models of new tenants",
          commands: {
            show: {
              description: "show what is in force, and all releases",
              load: () => import("./fleet/settings/show.ts"),
            },
            set: { description: "name what new tenants get", load: () => import("./fleet/settings/set.ts") },
          },
        },
        rollout: {
          description: "give tenants another release, step by step",
          commands: {
            start: { description: "begin one", load: () => import("./fleet/rollout/start.ts") },
            status: { description: "how it goes", load: () => import("./fleet/rollout/status.ts") },
            pause: { description: "begin with nobody more", load: () => import("./fleet/rollout/pause.ts") },
            resume: {
              description: "go on after a pause, or after it was halted",
              load: () => import("./fleet/rollout/resume.ts"),
            },
            abort: { description: "end it where it stands", load: () => import("./fleet/rollout/abort.ts") },
          },
        },
        rollback: {
          description: "give everybody the release before the current one",
          load: () => import("./fleet/rollback.ts"),
        },
      },
    },
    vault: {
      description: "look after where secrets lie",
      commands: {
        "rotate-key": {
          description: "seal all secrets with another key",
          load: () => import("./vault/rotate-key.ts"),
        },
      },
    },
    version: { description: "print the version and build", load: () => import("./version.ts") },
  },
};

/** Whether every word that is no option names a command, or stands behind one in full. */
export function isKnown(words: readonly string[]): boolean {
  let at: Leaf | Group = COMMANDS;
  for (const word of typedPath(words)) {
    if (!("commands" in at)) return true;
    const next: Leaf | Group | undefined = Object.hasOwn(at.commands, word) ? at.commands[word] : undefined;
    if (next === undefined) return at === COMMANDS && word === "help";
    at = next;
  }
  return true;
}

/** The program for `words`: all names and descriptions, and the one command that was typed in full. */
export async function buildProgram(words: readonly string[]): Promise<Command> {
  const program = await buildGroup("openclaw", COMMANDS, typedPath(words));
  program.helpCommand("help [command]", "show help for a command");
  return program;
}

async function buildGroup(name: string, group: Group, typed: readonly string[]): Promise<Command> {
  const command = new Command(name).description(group.description).showSuggestionAfterError().helpCommand(false);
  for (const [childName, child] of Object.entries(group.commands)) {
    const isTyped = childName === typed[0];
    if ("commands" in child) command.addCommand(await buildGroup(childName, child, isTyped ? typed.slice(1) : []));
    else if (isTyped) command.addCommand((await child.load()).command().name(childName).description(child.description));
    else command.addCommand(new Command(childName).description(child.description));
  }
  return command;
}

function typedPath(words: readonly string[]): string[] {
  return words.filter((word) => !word.startsWith("-"));
}
