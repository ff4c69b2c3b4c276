import Sparrow
import XCTest

final class SparrowTests: XCTestCase {
    func testWhatIsNoModelIsRefused() {
        XCTAssertThrowsError(try Model(bytes: Data([1, 2, 3]))) { error in
            XCTAssertEqual((error as? SparrowError)?.code, 1)
        }
        XCTAssertThrowsError(try Model(path: "/absent.spw")) { error in
            XCTAssertEqual((error as? SparrowError)?.code, 100)
        }
    }
}
