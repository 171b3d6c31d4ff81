-- Request records: the digest of a request's body, then the result. An empty name means that the
-- caller wants no record.

-- Return the result of an earlier call, nil if the request is new, or false if the same request id
-- came with another body.
local function request_result(name, digest)
  local record = name ~= '' and redis.call('GET', key(REQUEST, name))
  if not record then return nil end
  if record:sub(1, #digest) ~= digest then return false end
  return record:sub(#digest + 1)
end

local function request_keep(name, digest, result, seconds)
  if name ~= '' then redis.call('SET', key(REQUEST, name), digest .. result, 'EX', seconds) end
end
