-- include: clock era followers live modes packed requests
-- Make edges from followers of one shard. The bitmaps of the followees must name this shard
-- already.
-- KEYS  the tag of the followers' shard
-- ARGV  era, then for each edge: follower, followee, digest, request name, seconds to keep the
--       request, mode of the followee when its bitmap was marked
-- Returns for each edge {outcome, position, hint}. Outcomes: followed, already; refused: reused,
--         too_many. Hints: 'unsettled' if the edge is PULL but need not stay so; 'crowd' if the
--         followee may have become a celebrity; '' otherwise.
--         Returns 'stale' alone if the store lost its last writes: the bitmaps may be gone with
--         them
-- Repeat: the request record returns the outcome of the first call; without a record the outcome is
--         'already', with the same position.
--
-- A position is the time in microseconds, or more if that makes it greater than all positions of
-- the followee's followers here and of the follower's edges. So positions order both lists, and
-- tell an edge from a later edge between the same entities.
local era = ARGV[1]
local EDGES_FROM, EDGE_FIELDS = 2, 6

-- Return the mode of a followee in this shard. A flip may have read the bitmaps before this shard
-- was in them: the followee's own mode is then newer.
local function celebrity_mode(followee, mode)
  local celebrity = redis.call('HGET', CELEBRITIES, followee) or ''
  if is_pull_wanted(mode) and mode_epoch(mode) > (mode_epoch(celebrity) or 0) then
    celebrity = MODE_PULL .. mode:sub(2)
    redis.call('HSET', CELEBRITIES, followee, celebrity)
  end
  return celebrity
end

-- Make an edge; return its position and the number of the followee's followers in this shard.
local function make_edge(follower, followee, is_pull)
  local edges = key(EDGES, follower)
  local position = string.format('%.0f', math.max(clock_us(), 1 + (followers_last(followee) or 0),
    1 + (redis.call('HGET', edges, GENERATION) or 0)))
  -- A warm feed lacks what the outbox holds: reads merge the outbox until the edge is settled.
  local head = redis.call('LINDEX', cache_key(FEED, follower), 0)
  if is_pull or packed_state(head) == 'warm' then
    redis.call('SADD', key(PULLED, follower), followee)
  end
  redis.call('HSET', edges, followee, position, GENERATION, position)
  local count = followers_add(followee, follower, position)
  if leased(follower) then log_append(follower, 'f', followee) end
  return position, count
end

local function follow(follower, followee, digest, request, request_ttl, mode)
  local is_pull = is_pulled(celebrity_mode(followee, mode))
  local earlier = request_result(request, digest)
  local position = redis.call('HGET', key(EDGES, follower), followee)
  local outcome, count = 'followed', 0
  if earlier then
    outcome, position = earlier:match('^(%a+)(%d+)$')
  elseif earlier == false then
    outcome, position = 'reused', ''
  elseif position then
    outcome = 'already'
  elseif followees_count(follower) >= MAX_FOLLOWEES then
    outcome, position = 'too_many', ''
  else
    position, count = make_edge(follower, followee, is_pull)
  end
  if earlier == nil and outcome ~= 'too_many' then
    request_keep(request, digest, outcome .. position, request_ttl)
  end
  if is_pull then return {outcome, position, ''} end
  -- Shards hardly differ by half: from half of the threshold on, the caller counts all followers.
  if CELEBRITY_THRESHOLD > 0 and 2 * count * SHARD_COUNT >= CELEBRITY_THRESHOLD then
    return {outcome, position, 'crowd'}
  end
  local is_unsettled = redis.call('SISMEMBER', key(PULLED, follower), followee) == 1
  return {outcome, position, is_unsettled and 'unsettled' or ''}
end

if not era_is(era) then return 'stale' end
local results = {}
for first = EDGES_FROM, #ARGV, EDGE_FIELDS do
  results[#results + 1] = follow(unpack(ARGV, first, first + EDGE_FIELDS - 1))
end
return results
