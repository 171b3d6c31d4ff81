-- include: packed outbox
-- An outbox of another shard let an activity go.
-- KEYS  the tag of the activity's shard
-- ARGV  activity id, outbox
release_body(ARGV[1], ARGV[2])
