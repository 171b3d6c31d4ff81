-- include: packed clock live requests followers
-- Makes edges of one shard's followers. The bitmaps of the followees must name this shard already.
-- KEYS  the tag of the followers' shard
-- ARGV  era, then for each: follower, followee, digest, request name, seconds to keep it, mode of the followee
--       when its bitmap was looked at
-- Returns for each {outcome, position, 'unsettled' if the edge is PULL but need not stay so, or 'crowd' if the followee
--         may have so many followers that it should, or ''}. Outcomes: followed, already; reused, too_many: refused. A
--         repeated request has the outcome of the first. Returns nothing else than 'stale' if the store has lost its
--         last writes, and so maybe the bitmaps
--
-- The position is unique among the followee's followers here and among the follower's edges, only grows, and
-- begins with the time: it orders both lists, and it is the epoch of the edge.
if (redis.call('HGET', TALLIES, 'era') or '') ~= ARGV[1] then return 'stale' end
local results = {}
for first = 2, #ARGV, 6 do
  local follower, followee, digest, request = ARGV[first], ARGV[first + 1], ARGV[first + 2], ARGV[first + 3]
  local edges, pulled = key(EDGES, follower), key(PULLED, follower)
  local mode, celebrity, hint = ARGV[first + 5], redis.call('HGET', CELEBRITIES, followee) or '', ''
  -- A flip may have looked at the bitmaps before this shard was in them.
  if mode:find('^[>P]') and tonumber(mode:sub(2)) > (tonumber(celebrity:sub(2)) or 0) then
    celebrity = 'P' .. mode:sub(2)
    redis.call('HSET', CELEBRITIES, followee, celebrity)
  end
  local pull = celebrity:sub(1, 1) == 'P'
  local known = request_result(request, digest)
  local position = redis.call('HGET', edges, followee)
  local outcome = 'followed'
  if known then
    outcome, position = known:match('^(%a+)(%d+)$')
  elseif known == false then
    outcome, position = 'reused', ''
  elseif position then
    outcome = 'already'
  elseif edges_count(follower) >= MAX_FOLLOWEES then
    outcome, position = 'too_many', ''
  else
    position = string.format('%.0f', math.max(clock_us(), 1 + (followers_last(followee) or 0),
      1 + (redis.call('HGET', edges, GENERATION) or 0)))
    -- A warm feed lacks what the outbox holds: reads merge it until that is settled.
    local head = redis.call('LINDEX', cache_key(FEED, follower), 0)
    if pull or head and head:byte() ~= MARKER then redis.call('SADD', pulled, followee) end
    redis.call('HSET', edges, followee, position, GENERATION, position)
    local here = followers_add(followee, follower, position)
    -- Shards differ, but hardly by half: from there on it is counted.
    if CELEBRITY_THRESHOLD > 0 and not pull and 2 * here * SHARD_COUNT >= CELEBRITY_THRESHOLD then hint = 'crowd' end
    if leased(follower) then log_write(follower, 'f', followee) end
  end
  if known == nil and outcome ~= 'too_many' then
    request_keep(request, digest, outcome .. position, ARGV[first + 4])
  end
  if hint == '' and not pull and redis.call('SISMEMBER', pulled, followee) == 1 then hint = 'unsettled' end
  results[#results + 1] = {outcome, position, hint}
end
return results
