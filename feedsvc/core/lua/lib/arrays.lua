-- Arrays, and the arguments of a script that follow each other.

-- Most elements that one unpack() takes: Lua's stack bounds it.
local UNPACK_LIMIT = 512

-- Return a copy of a list from the index `first` to `last`, or to the end.
local function slice(list, first, last)
  local copy = {}
  for i = first, last or #list do copy[#copy + 1] = list[i] end
  return copy
end

-- Call a command with a key and all elements of a list, some hundred elements at a time.
local function call_in_chunks(command, name, list)
  for first = 1, #list, UNPACK_LIMIT do
    redis.call(command, name, unpack(list, first, math.min(first + UNPACK_LIMIT - 1, #list)))
  end
end
