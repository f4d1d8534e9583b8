//! Answers as the providers send them, and what they cost: each figure was computed by hand, as tokens × dollars per
//! million × 1,000, which is nano-dollars. A wrong reading of a usage object and a wrong price both show here.

use serde_json::{Value, json};

use super::*;
use crate::llm::draft::Draft;
use crate::llm::usage::ServiceTier;
use crate::llm::{anthropic, openai};

/// What is expected: fresh input, cache read, cache write for five minutes and for an hour, output, reasoning.
type Counts = [u64; 6];

struct Case {
    model: &'static str,
    /// OpenAI: the answer without its choices. Anthropic: the usage object.
    answer: Value,
    counts: Counts,
    tier: ServiceTier,
    nanousd: Option<i64>,
}

fn case(model: &'static str, answer: Value, counts: Counts, nanousd: i64) -> Case {
    Case { model, answer, counts, tier: ServiceTier::Standard, nanousd: Some(nanousd) }
}

impl Case {
    fn tier(self, tier: ServiceTier) -> Self {
        Self { tier, ..self }
    }

    fn unknown(self, tier: ServiceTier) -> Self {
        Self { tier, nanousd: None, ..self }
    }

    /// Through the readers that real answers go through.
    fn usage(&self, is_anthropic: bool) -> Usage {
        let mut draft = Draft::default();
        if is_anthropic {
            let body = json!({"type": "message", "content": [], "stop_reason": "end_turn", "usage": self.answer});
            anthropic::on_body(&mut draft, body.to_string().as_bytes()).unwrap();
        } else {
            let mut body = self.answer.clone();
            body["choices"] = json!([{"message": {"content": "ok"}, "finish_reason": "stop"}]);
            openai::on_body(&mut draft, body.to_string().as_bytes()).unwrap();
        }
        let (usage, is_estimate) = draft.usage_or_estimate(0);
        assert!(!is_estimate, "{}", self.answer);
        usage
    }
}

fn check(cases: &[Case], is_anthropic: bool) {
    let table = PriceTable::embedded().unwrap();
    for case in cases {
        let [fresh, read, minutes, hour, output, reasoning] = case.counts;
        let expected = Usage {
            input_fresh: fresh,
            input_cache_read: read,
            input_cache_write_5m: minutes,
            input_cache_write_1h: hour,
            output,
            output_reasoning: reasoning,
            service_tier: case.tier,
        };
        let usage = case.usage(is_anthropic);
        assert_eq!(usage, expected, "{} {}", case.model, case.answer);
        let cost = table.get(case.model).unwrap().cost_nanousd(&usage);
        assert_eq!(cost, case.nanousd, "{} {}", case.model, case.answer);
    }
}

#[test]
fn answers_of_openai_cost_what_their_lists_say() {
    use ServiceTier::{Batch, Flex, Priority, Ultrafast, Unpriced};
    let cases = [
        // 1. 1,000×2.5 + 500×10
        case(
            "gpt-4o",
            json!({"usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}}),
            [1000, 0, 0, 0, 500, 0],
            2_500_000 + 5_000_000,
        ),
        // 2. Cached tokens are inside prompt_tokens: 976×2.5 + 1,024×1.25 + 300×10
        case(
            "gpt-4o",
            json!({"usage": {
                "prompt_tokens": 2000, "completion_tokens": 300, "total_tokens": 2300,
                "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0,
                    "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}}}),
            [976, 1024, 0, 0, 300, 0],
            2_440_000 + 1_280_000 + 3_000_000,
        ),
        // 3. Fractions of a cent: 1×0.15 + 1×0.6
        case(
            "gpt-4o-mini",
            json!({"service_tier": "default", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
            [1, 0, 0, 0, 1, 0],
            150 + 600,
        ),
        // 4. All input cached, an odd count: 12,345×0.075 + 7×0.6
        case(
            "gpt-4o-mini",
            json!({"usage": {"prompt_tokens": 12345, "completion_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 12345}}}),
            [0, 12345, 0, 0, 7, 0],
            925_875 + 4_200,
        ),
        // 5. Reasoning is inside completion_tokens and costs as output: 100×2 + 2,100×10
        case(
            "gpt-6-sol",
            json!({"service_tier": "default", "usage": {"prompt_tokens": 100, "completion_tokens": 2100,
                "total_tokens": 2200, "completion_tokens_details": {"reasoning_tokens": 2048}}}),
            [100, 0, 0, 0, 2100, 2048],
            200_000 + 21_000_000,
        ),
        // 6. A server that leaves reasoning out of the count gives it away by the total: 100×2 + (52 + 2,048)×10
        case(
            "gpt-6-sol",
            json!({"usage": {"prompt_tokens": 100, "completion_tokens": 52, "total_tokens": 2200,
                "completion_tokens_details": {"reasoning_tokens": 2048}}}),
            [100, 0, 0, 0, 2100, 2048],
            200_000 + 21_000_000,
        ),
        // 7. Cache reads and writes, both inside: 500×2 + 3,000×0.1 + 1,500×2.5 + 10×10
        case(
            "gpt-6.1-sol",
            json!({"usage": {"prompt_tokens": 5000, "completion_tokens": 10, "total_tokens": 5010,
                "prompt_tokens_details": {"cached_tokens": 3000, "cache_write_tokens": 1500}}}),
            [500, 3000, 1500, 0, 10, 0],
            1_000_000 + 300_000 + 3_750_000 + 100_000,
        ),
        // 8. A model that lists no price of writes: they cost what input costs: 10×5 + 20×0.5 + 30×5 + 40×30
        case(
            "gpt-5.5",
            json!({"usage": {"prompt_tokens": 60, "completion_tokens": 40,
                "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 30}}}),
            [10, 20, 30, 0, 40, 0],
            50_000 + 10_000 + 150_000 + 1_200_000,
        ),
        // 9. The boundary belongs to the lower tier: 272,000×2 + 1,000×10
        case(
            "gpt-6-sol",
            json!({"usage": {"prompt_tokens": 272_000, "completion_tokens": 1000}}),
            [272_000, 0, 0, 0, 1000, 0],
            544_000_000 + 10_000_000,
        ),
        // 10. One more, and the whole call has the higher prices: 272,001×4 + 1,000×15
        case(
            "gpt-6-sol",
            json!({"usage": {"prompt_tokens": 272_001, "completion_tokens": 1000}}),
            [272_001, 0, 0, 0, 1000, 0],
            1_088_004_000 + 15_000_000,
        ),
        // 11. Cached input counts for the boundary: 100,000×8 + 200,000×0.8 + 10×30
        case(
            "gpt-5.6",
            json!({"usage": {"prompt_tokens": 300_000, "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 200_000}}}),
            [100_000, 200_000, 0, 0, 10, 0],
            800_000_000 + 160_000_000 + 300_000,
        ),
        // 12. Flex: 1,000×1 + 200×5
        case(
            "gpt-6-sol",
            json!({"service_tier": "flex", "usage": {"prompt_tokens": 1000, "completion_tokens": 200}}),
            [1000, 0, 0, 0, 200, 0],
            1_000_000 + 1_000_000,
        )
        .tier(Flex),
        // 13. Flex above the boundary, with a cached part: 200,000×2 + 100,000×0.2 + 50,000×2.5 + 1×7.5
        case(
            "gpt-6-sol",
            json!({"service_tier": "flex", "usage": {"prompt_tokens": 350_000, "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 100_000, "cache_write_tokens": 50_000}}}),
            [200_000, 100_000, 50_000, 0, 1, 0],
            400_000_000 + 20_000_000 + 125_000_000 + 7_500,
        )
        .tier(Flex),
        // 14. Priority: 1,000×0.2 + 500×0.02 + 100×1
        case(
            "gpt-6-luna",
            json!({"service_tier": "priority", "usage": {"prompt_tokens": 1500, "completion_tokens": 100,
                "prompt_tokens_details": {"cached_tokens": 500}}}),
            [1000, 500, 0, 0, 100, 0],
            200_000 + 10_000 + 100_000,
        )
        .tier(Priority),
        // 15. A factor that is not two: 8×4.25 + 4×2.125 + 3×17
        case(
            "gpt-4o",
            json!({"service_tier": "priority", "usage": {"prompt_tokens": 12, "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 4}}}),
            [8, 4, 0, 0, 3, 0],
            34_000 + 8_500 + 51_000,
        )
        .tier(Priority),
        // 16. Batch: 10,001×0.05 + 3×0.005 + 7×0.25 = 500.05 + 0.015 + 1.75
        case(
            "gpt-6-luna",
            json!({"service_tier": "batch", "usage": {"prompt_tokens": 10_004, "completion_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 3}}}),
            [10_001, 3, 0, 0, 7, 0],
            500_050 + 15 + 1_750,
        )
        .tier(Batch),
        // 17. Ultrafast above the boundary: 280,000×120 + 100×450
        case(
            "gpt-6-astra",
            json!({"service_tier": "ultrafast", "usage": {"prompt_tokens": 280_000, "completion_tokens": 100}}),
            [280_000, 0, 0, 0, 100, 0],
            33_600_000_000 + 45_000_000,
        )
        .tier(Ultrafast),
        // 18. A tier whose price is not listed is not guessed.
        case(
            "gpt-6-sol",
            json!({"service_tier": "scale", "usage": {"prompt_tokens": 10, "completion_tokens": 10}}),
            [10, 0, 0, 0, 10, 0],
            0,
        )
        .unknown(Unpriced),
        // 19. Nor one that the model does not list, here above its boundary.
        case(
            "gpt-5.5",
            json!({"service_tier": "priority", "usage": {"prompt_tokens": 272_001, "completion_tokens": 1}}),
            [272_001, 0, 0, 0, 1, 0],
            0,
        )
        .unknown(Priority),
        // 20. The Responses API: 30×2.5 + 70×0.25 + 12×15
        case(
            "gpt-5.4",
            json!({"usage": {"input_tokens": 100, "output_tokens": 12, "total_tokens": 112,
                "input_tokens_details": {"cached_tokens": 70}, "output_tokens_details": {"reasoning_tokens": 5}}}),
            [30, 70, 0, 0, 12, 5],
            75_000 + 17_500 + 180_000,
        ),
        // 21. Half a nano-dollar is rounded up once: 1×0.0375 + 1×1.875 + 1×0.375 = 2.2875 → 2,287.5
        case(
            "gemini-3.8-flash",
            json!({"service_tier": "flex", "usage": {"prompt_tokens": 2, "completion_tokens": 1,
                "prompt_tokens_details": {"cached_tokens": 1}}}),
            [1, 1, 0, 0, 1, 0],
            2_288,
        )
        .tier(Flex),
        // 22. Embeddings: 8,191×0.13
        case(
            "text-embedding-3-large",
            json!({"usage": {"prompt_tokens": 8191, "total_tokens": 8191}}),
            [8191, 0, 0, 0, 0, 0],
            1_064_830,
        ),
        // 23. Google above 200,000, by its compatible endpoint: 150,000×4 + 60,000×0.4 + 10×18
        case(
            "gemini-3.1-pro-preview",
            json!({"usage": {"prompt_tokens": 210_000, "completion_tokens": 10, "total_tokens": 210_010,
                "prompt_tokens_details": {"cached_tokens": 60_000}}}),
            [150_000, 60_000, 0, 0, 10, 0],
            600_000_000 + 24_000_000 + 180_000,
        ),
        // 24. Thoughts that Google's compatible endpoint counts in the total alone: 9×0.75 + (1 + 93)×3.75
        case(
            "gemini-3.8-flash",
            json!({"usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 103}}),
            [9, 0, 0, 0, 94, 93],
            6_750 + 352_500,
        ),
        // 25. Where reasoning is told and inside, a total that is larger tells of something else: 9×2 + 5×10
        case(
            "gpt-6-sol",
            json!({"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 20,
                "completion_tokens_details": {"reasoning_tokens": 3}}}),
            [9, 0, 0, 0, 5, 3],
            18_000 + 50_000,
        ),
    ];
    assert_eq!(cases.len(), 25);
    check(&cases, false);
}

#[test]
fn answers_of_anthropic_cost_what_their_lists_say() {
    use ServiceTier::{Batch, Priority, Unpriced};
    let cases = [
        // 1. 1,000×4 + 500×20
        case(
            "claude-opus-5-5",
            json!({"input_tokens": 1000, "output_tokens": 500, "service_tier": "standard"}),
            [1000, 0, 0, 0, 500, 0],
            4_000_000 + 10_000_000,
        ),
        // 2. Cache reads stand beside input_tokens: 21×2 + 188,086×0.1 + 393×10
        case(
            "claude-sonnet-5-5",
            json!({"input_tokens": 21, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 188_086,
                "output_tokens": 393,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "service_tier": "standard", "inference_geo": "not_available", "speed": "standard"}),
            [21, 188_086, 0, 0, 393, 0],
            42_000 + 18_808_600 + 3_930_000,
        ),
        // 3. Writes for five minutes: 3×3 + 12,304×3.75 + 55×15
        case(
            "claude-sonnet-4-6",
            json!({"input_tokens": 3, "cache_creation_input_tokens": 12_304, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 12_304, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 55}),
            [3, 0, 12_304, 0, 55, 0],
            9_000 + 46_140_000 + 825_000,
        ),
        // 4. Writes for an hour cost twice the input: 3×3 + 12,304×6 + 55×15
        case(
            "claude-sonnet-4-6",
            json!({"input_tokens": 3, "cache_creation_input_tokens": 12_304, "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 12_304},
                "output_tokens": 55}),
            [3, 0, 0, 12_304, 55, 0],
            9_000 + 73_824_000 + 825_000,
        ),
        // 5. Both, with a read: 10×5 + 1,000×0.5 + 456×6.25 + 100×10 + 503×25
        case(
            "claude-opus-4-5-20251101",
            json!({"input_tokens": 10, "cache_creation_input_tokens": 556, "cache_read_input_tokens": 1000,
                "cache_creation": {"ephemeral_5m_input_tokens": 456, "ephemeral_1h_input_tokens": 100},
                "output_tokens": 503}),
            [10, 1000, 456, 100, 503, 0],
            50_000 + 500_000 + 2_850_000 + 1_000_000 + 12_575_000,
        ),
        // 6. An older answer without the split wrote for five minutes: 1×1 + 1,001×1.25 + 1×5
        case(
            "claude-haiku-4-5",
            json!({"input_tokens": 1, "cache_creation_input_tokens": 1001, "output_tokens": 1}),
            [1, 0, 1001, 0, 1, 0],
            1_000 + 1_251_250 + 5_000,
        ),
        // 7. Thinking is inside output_tokens: 50×10 + 4,096×50
        case(
            "claude-fable-5-1",
            json!({"input_tokens": 50, "output_tokens": 4096, "output_tokens_details": {"thinking_tokens": 4000}}),
            [50, 0, 0, 0, 4096, 4000],
            500_000 + 204_800_000,
        ),
        // 8. The smallest call there is: 1×0.1 + 1×0.01 + 1×0.125 + 1×0.2 + 1×0.5
        case(
            "claude-haiku-5-5",
            json!({"input_tokens": 1, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 2,
                "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 1},
                "output_tokens": 1}),
            [1, 1, 1, 1, 1, 0],
            100 + 10 + 125 + 200 + 500,
        ),
        // 9. The boundary of 100,000 belongs to the lower tier: 100,000×0.1 + 10×0.5
        case(
            "claude-haiku-5-5",
            json!({"input_tokens": 100_000, "output_tokens": 10}),
            [100_000, 0, 0, 0, 10, 0],
            10_000_000 + 5_000,
        ),
        // 10. Cached input counts for it: 1×0.5 + 60,000×0.05 + 40,000×0.625 + 10×2.5
        case(
            "claude-haiku-5-5",
            json!({"input_tokens": 1, "cache_read_input_tokens": 60_000, "cache_creation_input_tokens": 40_000,
                "output_tokens": 10}),
            [1, 60_000, 40_000, 0, 10, 0],
            500 + 3_000_000 + 25_000_000 + 25_000,
        ),
        // 11. An hour above it: 5×0.5 + 100,000×1 + 4×2.5
        case(
            "claude-haiku-5-5",
            json!({"input_tokens": 5, "cache_creation_input_tokens": 100_000,
                "cache_creation": {"ephemeral_1h_input_tokens": 100_000}, "output_tokens": 4}),
            [5, 0, 0, 100_000, 4, 0],
            2_500 + 100_000_000 + 10_000,
        ),
        // 12. Batch: 1,000×2 + 200×0.1 + 300×2.5 + 400×4 + 500×10
        case(
            "claude-opus-5-5",
            json!({"input_tokens": 1000, "cache_read_input_tokens": 200, "cache_creation_input_tokens": 700,
                "cache_creation": {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 400},
                "output_tokens": 500, "service_tier": "batch"}),
            [1000, 200, 300, 400, 500, 0],
            2_000_000 + 20_000 + 750_000 + 1_600_000 + 5_000_000,
        )
        .tier(Batch),
        // 13. Batch above the boundary: 100,001×0.25 + 1×1.25
        case(
            "claude-haiku-5-5",
            json!({"input_tokens": 100_001, "output_tokens": 1, "service_tier": "batch"}),
            [100_001, 0, 0, 0, 1, 0],
            25_000_250 + 1_250,
        )
        .tier(Batch),
        // 14. A fraction of a nano-dollar: 1×0.0625 + 1×0.005 = 0.0675 → 67.5, rounded up once
        case(
            "claude-haiku-5-5",
            json!({"input_tokens": 0, "cache_read_input_tokens": 1, "cache_creation_input_tokens": 1,
                "output_tokens": 0, "service_tier": "batch"}),
            [0, 1, 1, 0, 0, 0],
            68,
        )
        .tier(Batch),
        // 15. Capacity that was paid in advance has another price than the list's.
        case(
            "claude-sonnet-5-5",
            json!({"input_tokens": 10, "output_tokens": 10, "service_tier": "priority"}),
            [10, 0, 0, 0, 10, 0],
            0,
        )
        .unknown(Priority),
        // 16. to 18. So have faster output, inference in one country, and searches.
        case(
            "claude-opus-4-8",
            json!({"input_tokens": 10, "output_tokens": 10, "speed": "fast"}),
            [10, 0, 0, 0, 10, 0],
            0,
        )
        .unknown(Unpriced),
        case(
            "claude-opus-4-8",
            json!({"input_tokens": 10, "output_tokens": 10, "inference_geo": "us"}),
            [10, 0, 0, 0, 10, 0],
            0,
        )
        .unknown(Unpriced),
        case(
            "claude-opus-4-8",
            json!({"input_tokens": 10, "output_tokens": 10, "server_tool_use": {"web_search_requests": 1}}),
            [10, 0, 0, 0, 10, 0],
            0,
        )
        .unknown(Unpriced),
    ];
    assert_eq!(cases.len(), 18);
    check(&cases, true);
}

/// In a stream of OpenAI's the tier comes with the first chunks, the counts with the last.
#[test]
fn the_tier_of_a_stream_is_kept_with_its_usage() {
    let mut draft = Draft::default();
    for data in [
        r#"{"service_tier":"flex","choices":[{"index":0,"delta":{"content":"ok"},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":200}}"#,
    ] {
        openai::on_event(&mut draft, &crate::llm::sse::Event { name: String::new(), data: data.into() }).unwrap();
    }
    assert_eq!(draft.raw_usage["service_tier"], "flex");
    let usage = draft.usage.unwrap();
    assert_eq!(Usage::from_openai(&draft.raw_usage), Some(usage));
    assert_eq!(PriceTable::embedded().unwrap().get("gpt-6-sol").unwrap().cost_nanousd(&usage), Some(2_000_000));
}
