-- A signed event is kept whatever it holds: jsonb refuses \u0000, lone surrogates, huge numbers and deep nesting.
ALTER TABLE stripe_events ALTER COLUMN payload TYPE text USING payload::text;
