-- include: packed deep
-- Ends building a feed's deep segment: what was merged from the outboxes, and what was delivered late since.
-- KEYS  the tag of the user's shard
-- ARGV  user, nonce, edge generation at the beginning, milliseconds to keep it, floor, ceiling, floor of the outboxes,
--       allowance, elements of the warm feed at the beginning, how many sources are not in it, these, then the ids, ascending
-- Returns 1, or 0: another build, an expiry or a changed edge came between
local user, floor, ceiling, sources = ARGV[1], ARGV[5], ARGV[6], tonumber(ARGV[10])
local deep = cache_key(DEEP, user)
local stored = redis.call('LRANGE', deep, 0, -1)
if stored[1] ~= '!' .. ARGV[2] then return 0 end
redis.call('DEL', deep)
if not warm_head(user) or (redis.call('HGET', key(EDGES, user), GENERATION) or '') ~= ARGV[3] then return 0 end
local head, left_out = table.concat({unpack(ARGV, 5, 9)}, ' '), {}
for i = 11, 10 + sources do
  left_out[ARGV[i]] = true
  head = head .. '\0' .. ARGV[i]
end
local late, spent = {}, tonumber(stored[2])
for i = 3, #stored do
  local id, source = stored[i]:match('^(%d+)%z(.*)$')
  if id > floor then spent = spent + 1 end
  if id <= ceiling and not left_out[source] and redis.call('SISMEMBER', key(PULLED, user), source) == 0 then
    late[#late + 1] = id
  end
end
table.sort(late)
redis.call('RPUSH', deep, head .. '\0', spent)
packed_append(deep, packed_merge(late, arguments(11 + sources), floor))
redis.call('PEXPIRE', deep, ARGV[4])
return 1
