-- include: packed deep
-- Begins to build a feed's deep segment: from here on what is delivered late lands in it.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, 'older' or 'newer', cursor, the greatest id below it
-- Returns {'begun', edge generation, elements of the warm feed, greatest ceiling, pulled followees ...}, or why not: {'there'}: a
--         segment serves this cursor; {'busy'}: somebody else builds one; {'no'}: the feed is not warm, or the cursor is
--         too near to its end
local user, older, cursor, top = ARGV[1], ARGV[3] == 'older', ARGV[4], ARGV[5]
local feed, deep = cache_key(FEED, user), cache_key(DEEP, user)
local floor = warm_head(user)
if not floor then return {'no'} end
if deep_serving(user, older, cursor, top) then return {'there'} end
local head = redis.call('LINDEX', deep, 0)
if head and head:byte() == MARKER then return {'busy'} end
-- What comes among the nine newest is not told to the segment.
local limit = redis.call('LINDEX', feed, -10) or floor
if older and top > limit or not older and cursor >= limit then return {'no'} end
redis.call('DEL', deep)
redis.call('RPUSH', deep, '!' .. ARGV[2], 0)
redis.call('PEXPIRE', deep, BUILD_MS)
return {'begun', redis.call('HGET', key(EDGES, user), GENERATION) or '', redis.call('LLEN', feed), limit,
  unpack(redis.call('SMEMBERS', key(PULLED, user)))}
