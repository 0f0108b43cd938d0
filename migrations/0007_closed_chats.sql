-- Chats in which nothing arrives any more, because their person blocked the bot or is gone, until they write again.
CREATE TABLE telegram_closed_chats (
  chat_id    bigint PRIMARY KEY,
  closed_at  timestamptz NOT NULL
);
