-- include: clock live
-- Tells the live logs of an author's followers in some shards of an activity.
-- KEYS  the tags of the followers' shards; one, where each shard has a slot of its own
-- ARGV  author, activity id, 'added' or 'removed', work budget, then for each shard the position to continue after
--       ('-inf' at first)
-- Returns for each {position to continue after ('' when done), live entities looked at}
--
-- It goes through the live entities, not through the followers: those are few of these. A lease that is renewed
-- meanwhile only moves ahead.
local author, id, budget = ARGV[1], ARGV[2], tonumber(ARGV[4])
local log, spent = ARGV[3] == 'added' and log_added or log_removed, 0

local function tell(position)
  if spent >= budget then return {position, 0} end
  local count = budget - spent
  local from = position == '-inf' and position or '(' .. position
  local found = redis.call('ZRANGEBYSCORE', LIVE, from, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
  local reached = #found == 2 * count and found[#found] or ''
  if reached ~= '' then -- whole leases only: more may have the same
    found = redis.call('ZRANGEBYSCORE', LIVE, from, reached, 'WITHSCORES')
  end
  for i = 1, #found, 2 do
    spent = spent + 1
    if redis.call('HEXISTS', key(EDGES, found[i]), author) == 1 and leased(found[i]) then
      log(found[i], id, author)
      spent = spent + 6
    end
  end
  return {reached, #found / 2}
end

local results = {}
woken = {}
for i = 1, #KEYS do
  use(KEYS[i])
  results[i] = tell(ARGV[4 + i])
  wake_all()
end
return results
