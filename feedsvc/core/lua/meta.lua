-- Read the record of a store; create the record if the store is new.
-- KEYS  the key of the record
-- ARGV  schema, number of shards, secret
-- Returns {schema, number of shards, secret} as recorded
-- Repeat: sets no field that the record has.
local record = KEYS[1]
local schema, shards, secret = ARGV[1], ARGV[2], ARGV[3]

redis.call('HSETNX', record, 'schema', schema)
redis.call('HSETNX', record, 'shards', shards)
redis.call('HSETNX', record, 'secret', secret)
return redis.call('HMGET', record, 'schema', 'shards', 'secret')
