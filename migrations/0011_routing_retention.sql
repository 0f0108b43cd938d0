-- What operators look dead letters up by, and what old rows are found by.

CREATE INDEX telegram_dead_letters_tenant_idx ON telegram_dead_letters (tenant_id, id);
CREATE INDEX telegram_dead_letters_lane_idx ON telegram_dead_letters (lane, id);
CREATE INDEX telegram_dead_letters_died_idx ON telegram_dead_letters (died_at);
CREATE INDEX telegram_notices_sent_idx ON telegram_notices (sent_at);
