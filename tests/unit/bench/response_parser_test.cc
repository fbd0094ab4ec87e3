#include "bench/load/client/response_parser.h"

#include <gtest/gtest.h>

namespace baton::load {
namespace {

struct Parsed {
  std::string body;
  int heads = 0;
  ResponseParser parser{{.on_head = [this](const ResponseHead&) { ++heads; },
                         .on_body = [this](std::string_view bytes) { body.append(bytes); }}};
};

const std::string kChunked =
    "HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    "5\r\nhello\r\nc;note=1\r\n, hello agai\r\n1\r\nn\r\n0\r\n\r\n";

TEST(ResponseParser, ChunksComeTheSameInPiecesOfAnySize) {
  for (size_t size = 1; size <= kChunked.size(); ++size) {
    Parsed parsed;
    for (size_t at = 0; at < kChunked.size(); at += size) {
      ASSERT_TRUE(parsed.parser.Push(std::string_view(kChunked).substr(at, size)))
          << parsed.parser.error();
    }
    EXPECT_TRUE(parsed.parser.done()) << size;
    EXPECT_EQ(parsed.body, "hello, hello again") << size;
    EXPECT_EQ(parsed.heads, 1);
    EXPECT_EQ(parsed.parser.head().content_type, "text/event-stream");
    EXPECT_TRUE(parsed.parser.head().keep_alive);
  }
}

TEST(ResponseParser, AnEmptyChunkedBodyMayComeByteByByte) {
  Parsed parsed;
  ASSERT_TRUE(parsed.parser.Push("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"));
  ASSERT_TRUE(parsed.parser.Push("\r"));
  EXPECT_FALSE(parsed.parser.done());
  ASSERT_TRUE(parsed.parser.Push("\n"));
  EXPECT_TRUE(parsed.parser.done());
}

TEST(ResponseParser, BodyWithoutALengthEndsWithTheConnection) {
  Parsed parsed;
  ASSERT_TRUE(parsed.parser.Push("HTTP/1.0 200 OK\r\n\r\nabc"));
  EXPECT_FALSE(parsed.parser.done());
  EXPECT_FALSE(parsed.parser.head().keep_alive);
  EXPECT_TRUE(parsed.parser.PushEnd());
  EXPECT_EQ(parsed.body, "abc");
}

TEST(ResponseParser, AnEndInTheMiddleIsNotTheEnd) {
  for (const char* text : {"", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"}) {
    Parsed parsed;
    ASSERT_TRUE(parsed.parser.Push(text));
    EXPECT_FALSE(parsed.parser.PushEnd()) << text;
  }
}

TEST(ResponseParser, WhatIsNotHttpIsAnError) {
  for (const char* text : {"SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 abc\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    Parsed parsed;
    EXPECT_FALSE(parsed.parser.Push(text)) << text;
    EXPECT_NE(parsed.parser.error(), "");
  }
}

TEST(ResponseParser, ConnectionCloseIsSeen) {
  Parsed parsed;
  ASSERT_TRUE(
      parsed.parser.Push("HTTP/1.1 429 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"));
  EXPECT_TRUE(parsed.parser.done());
  EXPECT_EQ(parsed.parser.head().status, 429);
  EXPECT_FALSE(parsed.parser.head().keep_alive);
}

}  // namespace
}  // namespace baton::load
