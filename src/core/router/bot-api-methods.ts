/**
 * What the gateway does with a method: `absorb` answers `true` without doing anything, `fixed` answers something harmless, `getMe` answers from
 * the cache, `conflict` refuses as Telegram refuses a second poller, `pass` checks and forwards, `refuse` refuses.
 */
export type BotApiRule = "absorb" | "fixed" | "getMe" | "conflict" | "pass" | "refuse";

/**
 * How a call counts: a `message` against its chat and the bot, another `call` against the bot alone, an `action` against
 * nothing, which is why it is left out when there is no room.
 */
export type BotApiPace = "message" | "call" | "action";

type Treatment =
  | { rule: Exclude<BotApiRule, "pass"> }
  /** A call must name at least one field of each group of `names`; whatever else it names must be the tenant's as well. */
  | { rule: "pass"; pace: BotApiPace; names: readonly (readonly string[])[] };

export type BotApiMethod = Treatment & { name: string };

const MESSAGE = { rule: "pass", pace: "message" } as const;
const CALL = { rule: "pass", pace: "call" } as const;

/** Every method of Bot API 10.1, by its documentation. A method that a later version adds is refused until it is listed here. */
const TABLE: readonly (Treatment & { methods: string })[] = [
  { rule: "getMe", methods: "getMe" },
  { rule: "conflict", methods: "getUpdates" },
  {
    // They would change the one bot that all tenants share; a runtime that is refused them goes into a restart loop.
    rule: "absorb",
    methods: `setWebhook deleteWebhook logOut close setMyCommands deleteMyCommands setMyName setMyDescription setMyShortDescription
      setMyProfilePhoto removeMyProfilePhoto setChatMenuButton setMyDefaultAdministratorRights`,
  },
  {
    rule: "fixed",
    methods: "getWebhookInfo getMyCommands getMyName getMyDescription getMyShortDescription getChatMenuButton",
  },
  {
    ...MESSAGE,
    names: [["chat_id"]],
    methods: `sendMessage sendMessageDraft sendRichMessage sendRichMessageDraft sendPhoto sendLivePhoto sendAudio sendDocument sendVideo
      sendAnimation sendVoice sendVideoNote sendMediaGroup sendSticker sendLocation sendVenue sendContact sendPoll sendDice
      setMessageReaction stopPoll deleteMessage deleteMessages pinChatMessage unpinChatMessage unpinAllChatMessages
      createForumTopic editForumTopic closeForumTopic reopenForumTopic deleteForumTopic unpinAllForumTopicMessages`,
  },
  {
    ...MESSAGE,
    names: [["chat_id"], ["from_chat_id"]],
    methods: "forwardMessage forwardMessages copyMessage copyMessages",
  },
  {
    ...MESSAGE,
    names: [["chat_id", "inline_message_id"]],
    methods: `editMessageText editMessageCaption editMessageMedia editMessageLiveLocation stopMessageLiveLocation
      editMessageReplyMarkup`,
  },
  { rule: "pass", pace: "action", names: [["chat_id"]], methods: "sendChatAction" },
  { ...CALL, names: [["chat_id"]], methods: "getChat" },
  { ...CALL, names: [["chat_id"], ["user_id"]], methods: "getChatMember" },
  { ...CALL, names: [["user_id"]], methods: "getUserProfilePhotos" },
  { ...CALL, names: [["file_id"]], methods: "getFile" },
  { ...CALL, names: [["callback_query_id"]], methods: "answerCallbackQuery" },
  { ...CALL, names: [["inline_query_id"]], methods: "answerInlineQuery" },
  {
    // Groups and channels, business accounts, gifts, payments, games, stories, sticker sets and managed bots are no part of the service.
    rule: "refuse",
    methods: `sendPaidMedia sendChecklist editMessageChecklist sendInvoice createInvoiceLink sendGame setGameScore getGameHighScores sendGift
    giftPremiumSubscription getAvailableGifts getUserGifts getChatGifts getUserProfileAudios setUserEmojiStatus getUserPersonalChatMessages
    banChatMember unbanChatMember restrictChatMember promoteChatMember setChatAdministratorCustomTitle setChatMemberTag banChatSenderChat
    unbanChatSenderChat setChatPermissions exportChatInviteLink createChatInviteLink editChatInviteLink createChatSubscriptionInviteLink
    editChatSubscriptionInviteLink revokeChatInviteLink approveChatJoinRequest declineChatJoinRequest answerChatJoinRequestQuery
    sendChatJoinRequestWebApp setChatPhoto deleteChatPhoto setChatTitle setChatDescription leaveChat getChatAdministrators
    getChatMemberCount setChatStickerSet deleteChatStickerSet getForumTopicIconStickers editGeneralForumTopic closeGeneralForumTopic
    reopenGeneralForumTopic hideGeneralForumTopic unhideGeneralForumTopic unpinAllGeneralForumTopicMessages answerGuestQuery
    getUserChatBoosts getBusinessConnection getManagedBotToken replaceManagedBotToken getManagedBotAccessSettings
    setManagedBotAccessSettings getMyDefaultAdministratorRights verifyUser verifyChat removeUserVerification removeChatVerification
    readBusinessMessage deleteBusinessMessages setBusinessAccountName setBusinessAccountUsername setBusinessAccountBio
    setBusinessAccountProfilePhoto removeBusinessAccountProfilePhoto setBusinessAccountGiftSettings getBusinessAccountStarBalance
    transferBusinessAccountStars getBusinessAccountGifts convertGiftToStars upgradeGift transferGift postStory repostStory editStory
    deleteStory answerWebAppQuery savePreparedInlineMessage savePreparedKeyboardButton approveSuggestedPost declineSuggestedPost
    deleteMessageReaction deleteAllMessageReactions getStickerSet getCustomEmojiStickers uploadStickerFile createNewStickerSet
    addStickerToSet setStickerPositionInSet deleteStickerFromSet replaceStickerInSet setStickerEmojiList setStickerKeywords
    setStickerMaskPosition setStickerSetTitle setStickerSetThumbnail setCustomEmojiStickerSetThumbnail deleteStickerSet
    answerShippingQuery answerPreCheckoutQuery getMyStarBalance getStarTransactions refundStarPayment editUserStarSubscription
    setPassportDataErrors`,
  },
];

const METHODS = new Map<string, BotApiMethod>(
  TABLE.flatMap(({ methods, ...rest }) =>
    methods.split(/\s+/).map((name): [string, BotApiMethod] => [name.toLowerCase(), { ...rest, name }]),
  ),
);

/** The method in Telegram's own spelling and its rule. Telegram takes method names in any case, so the look-up does too. */
export function findBotApiMethod(name: string): BotApiMethod | undefined {
  return METHODS.get(name.toLowerCase());
}

export function listBotApiMethods(): BotApiMethod[] {
  return [...METHODS.values()];
}

/** The `result` of a method whose rule is `fixed`: what a fresh bot without any settings would answer. */
export function fixedResult(name: string): unknown {
  switch (name) {
    case "getWebhookInfo":
      return { url: "", has_custom_certificate: false, pending_update_count: 0 };
    case "getMyCommands":
      return [];
    case "getMyName":
      return { name: "" };
    case "getMyDescription":
      return { description: "" };
    case "getMyShortDescription":
      return { short_description: "" };
    case "getChatMenuButton":
      return { type: "default" };
    default:
      throw new Error(`No fixed result for ${name}`);
  }
}
