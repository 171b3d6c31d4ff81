-- include: followers modes packed
-- Flip edges to an entity in some shards to PULL, or back to PUSH. A newer flip wins.
-- KEYS  the tags of the followers' shards; one where each shard has a slot of its own
-- ARGV  entity, epoch, 'pull' or 'push', work budget, then for each shard the position to continue
--       after ('-inf' at first)
-- Returns for each shard {position to continue after ('' when done), number of followers, then for
--         each follower whose warm feed needs the outbox before the edge is PUSH: follower,
--         position of the edge}
-- Repeat: sets the same mode and the same edges again, and returns the same followers.
local entity, epoch, is_pull = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'pull'
local budget = tonumber(ARGV[4])
local POSITIONS = 4
local mode_after = mode_text(is_pull and MODE_PULL or MODE_PUSH, epoch)
local spent = 0

local function flip_to_pull(follower)
  -- A deep segment may hold ids that the outbox trims from now on.
  if redis.call('SADD', key(PULLED, follower), entity) == 1 then
    redis.call('DEL', cache_key(DEEP, follower))
  end
end

-- Flip an edge to PUSH if the feed is cold. Return whether the caller has to settle the edge: the
-- warm feed lacks what the outbox holds.
local function flip_to_push(follower)
  local pulled = key(PULLED, follower)
  if redis.call('SISMEMBER', pulled, entity) == 0 then return false end
  local state = packed_state(redis.call('LINDEX', cache_key(FEED, follower), 0))
  -- The next build of a cold feed reads the outbox. The build of a feed that is being built may
  -- have read the outbox too early: reads settle the edge.
  if state == 'cold' then redis.call('SREM', pulled, entity) end
  return state == 'warm'
end

local function flip_shard(position)
  if spent >= budget then return {position, 0} end
  local mode = redis.call('HGET', CELEBRITIES, entity)
  if mode and mode_epoch(mode) > epoch then return {'', 0} end
  redis.call('HSET', CELEBRITIES, entity, mode_after)
  local count = budget - spent
  local followers, are_many = followers_after(entity, position, count)
  local result = {'', #followers}
  for _, follower in ipairs(followers) do
    spent = spent + 1
    if is_pull then
      flip_to_pull(follower)
    elseif flip_to_push(follower) then
      result[#result + 1] = follower
      result[#result + 1] = edge_position(follower, entity)
    end
  end
  if are_many and #followers == count then
    result[1] = edge_position(followers[#followers], entity)
  end
  return result
end

local results = {}
for i, tag in ipairs(KEYS) do
  use(tag)
  results[i] = flip_shard(ARGV[POSITIONS + i])
end
return results
