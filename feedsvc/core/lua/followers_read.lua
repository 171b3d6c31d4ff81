-- include: followers
-- Reads followers of an entity, newest edge first.
-- KEYS  the tag of the followers' shard
-- ARGV  followee, greatest position ('+inf': no bound, '(...': exclusive), count
-- Returns {follower, position, ...}
local followee, bound, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found = redis.call('ZREVRANGEBYSCORE', key(FOLLOWERS, followee), bound, '-inf', 'WITHSCORES', 'LIMIT', 0, count)
if found[1] then return found end
local _, numbers = few_followers(followee)
local names, most = names_of(numbers or ''), bound == '+inf' and math.huge or tonumber((bound:gsub('%(', '')))
if bound:sub(1, 1) == '(' then most = most - 1 end
for i = #names, 1, -1 do
  local position = position_of(names[i], followee)
  if tonumber(position) <= most and #found < 2 * count then
    found[#found + 1] = names[i]
    found[#found + 1] = position
  end
end
return found
