/**
 * What the gateway does with a method: `absorb` answers `true` without doing anything, `fixed` answers something harmless, `getMe` answers from
 * the cache, `conflict` refuses as Telegram refuses a second poller, `pass` checks and forwards, `refuse` refuses.
 */
export type BotApiRule = "absorb" | "fixed" | "getMe" | "conflict" | "pass" | "refuse";

export type BotApiMethod = { name: string; rule: BotApiRule };

/** Every method of Bot API 10.1. A method that a later version adds is refused until it is listed here. */
const METHODS_BY_RULE: Record<BotApiRule, string> = {
  getMe: "getMe",
  conflict: "getUpdates",
  // They would change the one bot that all tenants share; a runtime that is refused them goes into a restart loop.
  absorb: `setWebhook deleteWebhook logOut close setMyCommands deleteMyCommands setMyName setMyDescription setMyShortDescription
    setMyProfilePhoto removeMyProfilePhoto setChatMenuButton setMyDefaultAdministratorRights`,
  fixed: "getWebhookInfo getMyCommands getMyName getMyDescription getMyShortDescription getChatMenuButton",
  pass: `sendMessage sendMessageDraft sendRichMessage sendRichMessageDraft sendPhoto sendLivePhoto sendAudio sendDocument sendVideo
    sendAnimation sendVoice sendVideoNote sendMediaGroup sendSticker sendLocation sendVenue sendContact sendPoll sendDice sendChatAction
    forwardMessage forwardMessages copyMessage copyMessages setMessageReaction
    editMessageText editMessageCaption editMessageMedia editMessageLiveLocation stopMessageLiveLocation editMessageReplyMarkup stopPoll
    deleteMessage deleteMessages pinChatMessage unpinChatMessage unpinAllChatMessages
    answerCallbackQuery answerInlineQuery getFile getChat getChatMember getUserProfilePhotos
    createForumTopic editForumTopic closeForumTopic reopenForumTopic deleteForumTopic unpinAllForumTopicMessages`,
  // Groups and channels, business accounts, gifts, payments, games, stories, sticker sets and managed bots are no part of the service.
  refuse: `sendPaidMedia sendChecklist editMessageChecklist sendInvoice createInvoiceLink sendGame setGameScore getGameHighScores sendGift
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
};

const METHODS = new Map<string, BotApiMethod>(
  methodsOf("getMe")
    .concat(methodsOf("conflict"), methodsOf("absorb"), methodsOf("fixed"), methodsOf("pass"), methodsOf("refuse"))
    .map((method) => [method.name.toLowerCase(), method]),
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

function methodsOf(rule: BotApiRule): BotApiMethod[] {
  return METHODS_BY_RULE[rule].split(/\s+/).map((name) => ({ name, rule }));
}
