-- include: followers
-- Reads followers of an entity in some shards, newest edge first.
-- KEYS  the tags of the followers' shards; one, where each shard has a slot of its own
-- ARGV  followee, count, then for each shard the greatest position ('+inf': no bound, '(...': exclusive)
-- Returns for each {follower, position, ...}
local followee, count = ARGV[1], tonumber(ARGV[2])

local function read(bound)
  local found = redis.call('ZREVRANGEBYSCORE', key(FOLLOWERS, followee), bound, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
  if found[1] then return found end
  local _, numbers = few_followers(followee)
  local names, most = names_of(numbers or ''), bound == '+inf' and math.huge or tonumber((bound:gsub('%(', '')))
  if bound:sub(1, 1) == '(' then most = most - 1 end
  for i = #names, 1, -1 do
    if #found >= 2 * count then break end
    local position = position_of(names[i], followee)
    if tonumber(position) <= most then
      found[#found + 1] = names[i]
      found[#found + 1] = position
    end
  end
  return found
end

local results = {}
for i = 1, #KEYS do
  use(KEYS[i])
  results[i] = read(ARGV[2 + i])
end
return results
