-- include: followers
-- Read followers of an entity in some shards, newest edge first.
-- KEYS  the tags of the followers' shards; one where each shard has a slot of its own
-- ARGV  followee, count, then for each shard the greatest position ('+inf': no bound, '(...':
--       exclusive)
-- Returns for each shard {follower, position, ...}
-- Repeat: only reads.
local followee, count = ARGV[1], tonumber(ARGV[2])
local BOUNDS = 2

local function read_few(bound)
  local _, numbers = few_followers(followee)
  local names, greatest = follower_names(numbers or ''), math.huge
  if bound ~= '+inf' then greatest = tonumber((bound:gsub('%(', ''))) end
  if bound:sub(1, 1) == '(' then greatest = greatest - 1 end
  local page = {}
  for i = #names, 1, -1 do
    if #page >= 2 * count then break end
    local position = edge_position(names[i], followee)
    if tonumber(position) <= greatest then
      page[#page + 1] = names[i]
      page[#page + 1] = position
    end
  end
  return page
end

local results = {}
for i, tag in ipairs(KEYS) do
  use(tag)
  local bound = ARGV[BOUNDS + i]
  local page = redis.call('ZREVRANGEBYSCORE', key(FOLLOWERS, followee), bound, '-inf',
    'WITHSCORES', 'LIMIT', 0, count)
  results[i] = page[1] and page or read_few(bound)
end
return results
