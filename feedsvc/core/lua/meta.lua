-- Reads what the store was created with, and creates it if it is new.
-- KEYS  the key of the record
-- ARGV  schema, shards, secret
-- Returns {schema, shards, secret} as recorded
redis.call('HSETNX', KEYS[1], 'schema', ARGV[1])
redis.call('HSETNX', KEYS[1], 'shards', ARGV[2])
redis.call('HSETNX', KEYS[1], 'secret', ARGV[3])
return redis.call('HMGET', KEYS[1], 'schema', 'shards', 'secret')
