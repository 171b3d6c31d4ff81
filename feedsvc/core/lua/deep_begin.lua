-- include: deep packed
-- Begin to build a feed's deep segment: from now on late deliveries land in the segment.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, 'older' or 'newer', cursor, top: the greatest id below the cursor
-- Returns {'begun', edge generation, number of elements of the warm feed, greatest ceiling, PULL
--         followees ...}, or why no build began: {'serves'}: a segment serves this cursor already;
--         {'busy'}: another build is under way; {'no'}: the feed is not warm, or the cursor is too
--         near its end
-- Repeat: finds its own marker and returns {'busy'}. The caller merges the outboxes itself, and the
--         marker expires.
local user, nonce, is_older, cursor, top = ARGV[1], ARGV[2], ARGV[3] == 'older', ARGV[4], ARGV[5]
local feed, deep = cache_key(FEED, user), cache_key(DEEP, user)

local floor = warm_head(user)
if not floor then return {'no'} end
if deep_serving(user, is_older, cursor, top) then return {'serves'} end
if packed_state(redis.call('LINDEX', deep, 0)) == 'building' then return {'busy'} end
-- The segment does not hear of an id that lands among the nine newest ids of the feed.
local ceiling = redis.call('LINDEX', feed, -10) or floor
if is_older and top > ceiling or not is_older and cursor >= ceiling then return {'no'} end
redis.call('DEL', deep)
redis.call('RPUSH', deep, '!' .. nonce, 0)
redis.call('PEXPIRE', deep, BUILD_TTL_MS)
local generation = redis.call('HGET', key(EDGES, user), GENERATION) or ''
return {'begun', generation, redis.call('LLEN', feed), ceiling,
  unpack(redis.call('SMEMBERS', key(PULLED, user)))}
