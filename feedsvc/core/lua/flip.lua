-- include: packed followers
-- Flips edges to an entity in some shards to PULL, or back to PUSH; what a newer flip has touched it leaves.
-- KEYS  the tags of the followers' shards; one, where each shard has a slot of its own
-- ARGV  entity, epoch, 'pull' or 'push', work budget, then for each shard the position to continue after ('-inf' at first)
-- Returns for each {position to continue after ('' when done), how many followers, and of those whose warm feed must be
--         given the outbox before its edge is PUSH: follower, position of its edge, ...}
local entity, epoch, pull, budget = ARGV[1], tonumber(ARGV[2]), ARGV[3] == 'pull', tonumber(ARGV[4])
local spent = 0

local function flip(position)
  if spent >= budget then return {position, 0} end
  local known = redis.call('HGET', CELEBRITIES, entity)
  if known and tonumber(known:sub(2)) > epoch then return {'', 0} end
  redis.call('HSET', CELEBRITIES, entity, (pull and 'P' or 'U') .. string.format('%.0f', epoch))
  local count = budget - spent
  local followers, many = followers_after(entity, position, count)
  local result = {'', #followers}
  for i = 1, #followers do
    local follower = followers[i]
    local pulled = key(PULLED, follower)
    spent = spent + 1
    if pull then
      -- A deep segment may hold what the outbox lets go from now on.
      if redis.call('SADD', pulled, entity) == 1 then redis.call('DEL', cache_key(DEEP, follower)) end
    elseif redis.call('SISMEMBER', pulled, entity) == 1 then
      local head = redis.call('LINDEX', cache_key(FEED, follower), 0)
      if not head then
        redis.call('SREM', pulled, entity) -- who builds it reads the outbox
      elseif head:byte() ~= MARKER then -- else who is building it may have read the outbox too early: reads settle it
        result[#result + 1] = follower
        result[#result + 1] = position_of(follower, entity)
      end
    end
  end
  if many and #followers == count then result[1] = position_of(followers[#followers], entity) end
  return result
end

local results = {}
for i = 1, #KEYS do
  use(KEYS[i])
  results[i] = flip(ARGV[4 + i])
end
return results
