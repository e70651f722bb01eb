-- Guesses passwords: each request has one that nobody sent before, for the user "bench".
-- Arguments: a digit that makes the guesses of this run its own, and how many channels to guess at (0: one channel).
local letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
local user = "YmVuY2g6" -- "bench:", 6 bytes, so that what follows is encoded by itself

-- Three digits are three bytes are four letters.
local function encode(number)
  local text = string.format("%03d", number)
  local bits = text:byte(1) * 65536 + text:byte(2) * 256 + text:byte(3)
  local encoded = ""
  for _ = 1, 4 do
    local letter = bits % 64
    encoded = letters:sub(letter + 1, letter + 1) .. encoded
    bits = (bits - letter) / 64
  end
  return encoded
end

local encoded = {}
for number = 0, 999 do
  encoded[number] = encode(number)
end

function init(args)
  run = tonumber(args[1])
  channels = tonumber(args[2])
  guesses = 0
end

function request()
  guesses = guesses + 1
  local path = wrk.path
  if channels > 0 then
    path = path .. "-" .. guesses % channels
  end
  local guess = encoded[run] .. encoded[math.floor(guesses / 1000000) % 1000] ..
    encoded[math.floor(guesses / 1000) % 1000] .. encoded[guesses % 1000]
  local headers = { ["Content-Type"] = "application/x-www-form-urlencoded", ["Authorization"] = "Basic " .. user .. guess }
  return wrk.format("POST", path, headers, "From=a&To=b&MessageSid=SM1&MessageType=text&Body=Hello")
end
